"""Eager: every operator is launched by the host, nothing is replayed."""

from __future__ import annotations

from ascend_serve.engine.runtimes.base import GraphHost, GraphRuntime
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import CapturePlan


class EagerRuntime(GraphRuntime):
    """Replays nothing."""

    name = RuntimeName.EAGER

    def apply(self, host: GraphHost, plan: CapturePlan, kept: frozenset[GraphKey]) -> None:
        host.release(host.held())
        host.dispatch(GraphMode.NONE, ())
