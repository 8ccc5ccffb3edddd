"""From the name of a runtime to the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ascend_serve.engine.runtimes.aclgraph import ACLGraphRuntime
from ascend_serve.engine.runtimes.base import GraphHost, GraphRuntime
from ascend_serve.engine.runtimes.eager import EagerRuntime
from ascend_serve.engine.runtimes.xlite import XliteRuntime
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import RuntimeName
from ascend_serve.graph.plan import CapturePlan

IMPLEMENTATIONS: Mapping[RuntimeName, GraphRuntime] = MappingProxyType(
    {runtime.name: runtime for runtime in (EagerRuntime(), ACLGraphRuntime(), XliteRuntime())}
)
"""All runtimes, by the name that they have in a plan."""


def apply_plan(host: GraphHost, plan: CapturePlan, kept: frozenset[GraphKey]) -> None:
    """Follow ``plan`` from the next step on, with its runtime alone; graphs that are not in ``kept`` are released."""
    for name, runtime in IMPLEMENTATIONS.items():
        if name is not plan.runtime:
            runtime.leave(host)
    IMPLEMENTATIONS[plan.runtime].apply(host, plan, kept)
