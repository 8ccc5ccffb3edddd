"""A report of a group that reached all that was asked for."""

from __future__ import annotations

from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.telemetry.report import GraphReport, Outcome

REPORT = GraphReport(
    outcome=Outcome.GRAPH,
    requested_mode=GraphMode.FULL,
    effective_mode=GraphMode.FULL,
    requested_runtime=RuntimeName.ACLGRAPH,
    runtime=RuntimeName.ACLGRAPH,
)
