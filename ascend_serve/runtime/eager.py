"""Eager: every operator is launched by the host, nothing is replayed."""

from __future__ import annotations

from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import CapturePlan
from ascend_serve.runtime.base import GraphRuntime


class EagerRuntime(GraphRuntime):
    """Replays nothing."""

    name = RuntimeName.EAGER

    def apply(self, plan: CapturePlan, kept: frozenset[GraphKey]) -> None:
        self._host.release(self._host.held())
        self._host.use_whole_model_program(False)
        self._host.dispatch(GraphMode.NONE, ())
