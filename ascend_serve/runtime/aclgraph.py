"""ACLGraph: graphs captured at run time through ``torch.npu.NPUGraph``, one per key."""

from __future__ import annotations

from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import RuntimeName
from ascend_serve.graph.plan import CapturePlan
from ascend_serve.runtime.base import GraphRuntime


class ACLGraphRuntime(GraphRuntime):
    """Replays the graphs that vLLM's capture loop recorded."""

    name = RuntimeName.ACLGRAPH

    def apply(self, plan: CapturePlan, kept: frozenset[GraphKey]) -> None:
        self._host.release(self._host.held() - kept)
        self._host.use_whole_model_program(False)
        self._host.dispatch(plan.mode, plan.capture_sizes)
