"""Xlite: a whole-model program that was built when the model was loaded; nothing is captured."""

from __future__ import annotations

from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import RuntimeName
from ascend_serve.graph.plan import CapturePlan
from ascend_serve.runtime.base import GraphRuntime


class XliteRuntime(GraphRuntime):
    """Sends forwards through Xlite; those that it does not take go through the model as it is.

    Without capture, ``mode`` and sizes only say how vLLM pads decode batches: ``FULL_DECODE_ONLY`` where Xlite takes
    decode alone, ``NONE`` in full mode (vllm-ascend 0.23.0, ``NPUPlatform.check_and_update_config``).
    """

    name = RuntimeName.XLITE

    def apply(self, plan: CapturePlan, kept: frozenset[GraphKey]) -> None:
        self._host.release(self._host.held())
        self._host.use_whole_model_program(True)
        self._host.dispatch(plan.mode, plan.capture_sizes)
