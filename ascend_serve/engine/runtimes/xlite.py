"""Xlite: a whole-model program that is built when the model is loaded; nothing is captured.

vllm-ascend's Xlite worker sets up a communicator of its own while it loads, and answers vLLM's profile run without a
forward: ranks with and without it would wait for each other. Checked against vllm-ascend 0.23.0, 0.26.0rc1 and
0.30.0rc2 (``XliteGraphConfig``, ``XliteWorker``, ``XliteModelRunner``, ``XliteWrapper``).
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from ascend_serve.engine.expected import expected
from ascend_serve.engine.npu import is_emulated
from ascend_serve.engine.runtimes.base import GraphHost, GraphRuntime, RuntimeOffer
from ascend_serve.errors import CaptureError
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import RuntimeName
from ascend_serve.graph.plan import CapturePlan

if TYPE_CHECKING:
    from vllm.config import VllmConfig

WORKERS = ("vllm_ascend.worker.worker.NPUWorker", "vllm_ascend.xlite.xlite_worker.XliteWorker")
"""vllm-ascend's worker, and the one that loads for Xlite."""


class XliteRuntime(GraphRuntime):
    """Sends forwards through Xlite; those that it does not take go through the model as it is.

    Without capture, ``mode`` and sizes only say how vLLM pads decode batches: ``FULL_DECODE_ONLY`` where Xlite takes
    decode alone, ``NONE`` in full mode (vllm-ascend 0.23.0, ``NPUPlatform.check_and_update_config``).
    """

    name = RuntimeName.XLITE

    def refusal(self, vllm_config: VllmConfig) -> str:
        """Why Xlite cannot run this model; the emulated one has programs for fewer."""
        refusal = super().refusal(vllm_config)
        if refusal or not is_emulated():
            return refusal
        from ascend_serve.emulated import xlite

        return xlite.refusal(vllm_config)

    def offer(self) -> RuntimeOffer:
        """What the packages of this node offer."""
        try:
            importlib.import_module("torch")  # xlite's extension module is linked against it
            importlib.import_module("xlite._C")
            return RuntimeOffer(version(self.traits.package))
        except (ImportError, PackageNotFoundError) as error:
            return self._missing(str(error))

    def emulated_offer(self, vllm_config: VllmConfig, rank: int) -> RuntimeOffer:
        """What is scripted for the node of ``rank``."""
        from ascend_serve.emulated import xlite

        found = xlite.installed_version(vllm_config, rank)
        return RuntimeOffer(found) if found else self._missing("it is not installed")

    def _missing(self, reason: str) -> RuntimeOffer:
        return RuntimeOffer(refusal=f"{reason}; install it with `{self.traits.install}`")

    def prepare(self, vllm_config: VllmConfig, *, on: bool) -> None:
        """Let the next workers load for Xlite, or not; vllm-ascend chose their class when the engine was configured."""
        super().prepare(vllm_config, on=on)
        if vllm_config.parallel_config.worker_cls in WORKERS:
            vllm_config.parallel_config.worker_cls = WORKERS[on]

    def apply(self, host: GraphHost, plan: CapturePlan, kept: frozenset[GraphKey]) -> None:
        if not self.is_loaded(host.runner.vllm_config):
            raise CaptureError("The plan runs Xlite, and this rank loaded its model without it")
        wrapper = _wrapper(host.runner)
        host.release(host.held())
        host.runner.model = wrapper
        host.dispatch(plan.mode, plan.capture_sizes)

    def leave(self, host: GraphHost) -> None:
        """Let forwards go to the model itself; the wrapper stays at hand."""
        if self.is_loaded(host.runner.vllm_config):
            host.runner.model = _model(host.runner)


def _wrapper(runner: Any) -> Any:
    """What Xlite put around the model when it was loaded: ``xlite_model`` up to 0.26, ``runner_model`` from 0.27 on."""
    return expected(runner, "xlite_model", "runner_model")


def _model(runner: Any) -> Any:
    """The model itself: the wrapper's up to 0.26, the runner's from 0.27 on, which sets its mode when it is set."""
    return runner.xlite_model.runnable if hasattr(runner, "xlite_model") else expected(runner, "fallback_model")
