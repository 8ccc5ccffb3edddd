"""ACLGraph: graphs captured at run time through ``torch.npu.NPUGraph``, one per key."""

from __future__ import annotations

from ascend_serve.engine.runtimes.base import GraphHost, GraphRuntime
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import RuntimeName
from ascend_serve.graph.plan import CapturePlan


class ACLGraphRuntime(GraphRuntime):
    """Replays the graphs that vLLM's capture loop recorded."""

    name = RuntimeName.ACLGRAPH

    def apply(self, host: GraphHost, plan: CapturePlan, kept: frozenset[GraphKey]) -> None:
        host.release(host.held() - kept)
        host.dispatch(plan.mode, plan.capture_sizes)
