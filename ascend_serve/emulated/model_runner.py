"""vLLM's CPU model runner with capture and replay. Checked against vLLM 0.32.0 (V1 model runner)."""

from __future__ import annotations

from typing import Any

import psutil
import torch
from vllm.compilation.monitor import set_cudagraph_capturing_enabled
from vllm.config import CUDAGraphMode
from vllm.forward_context import BatchDescriptor
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

from ascend_serve.emulated.acl_graph import ACLGraphWrapper
from ascend_serve.emulated.device import current_device
from ascend_serve.emulated.xlite import OPTIONS, XliteWrapper


class EmulatedNPUModelRunner(CPUModelRunner):
    """Captures what the dispatcher lists and replays it, as vllm-ascend's ``NPUModelRunner`` does."""

    model: Any
    xlite_model: XliteWrapper | None = None

    def load_model(self, load_dummy_weights: bool = False) -> None:
        """Load the model and wrap it where full graphs are wanted."""
        super().load_model(load_dummy_weights)
        if self.compilation_config.cudagraph_mode.has_full_cudagraphs():
            self.model = ACLGraphWrapper(self.model, self.vllm_config, CUDAGraphMode.FULL)
        if self.vllm_config.additional_config.get(OPTIONS, {}).get("enabled"):
            # As vllm-ascend's ``XliteModelRunner``: the wrapper stays at hand when the model goes on without it.
            self.model = self.xlite_model = XliteWrapper(self.model, self.vllm_config)

    def get_model(self) -> torch.nn.Module:
        """The model itself: vLLM asks its class what it can do."""
        return self.model.unwrap() if isinstance(self.model, ACLGraphWrapper | XliteWrapper) else self.model

    def initialize_kv_cache(self, *args: Any, **kwargs: Any) -> None:
        """Allocate the KV caches, and hand them to Xlite where it runs."""
        super().initialize_kv_cache(*args, **kwargs)
        if self.xlite_model is not None:
            self.xlite_model.register_kv_caches(self.kv_caches)

    @torch.inference_mode()
    def capture_model(self) -> int:
        """Capture every graph that the dispatcher lists now. Graphs that exist already are replayed once.

        Of the contexts that vLLM enters on a GPU, ``graph_capture`` is left out: it makes a CUDA stream.

        Returns:
            Bytes by which the process grew.
        """
        before = psutil.Process().memory_info().rss
        set_cudagraph_capturing_enabled(True)
        try:
            with self._freeze_gc():
                for mode, descriptors in self.cudagraph_dispatcher.get_capture_descs():
                    self._capture_cudagraphs(descriptors, cudagraph_runtime_mode=mode)
        finally:
            set_cudagraph_capturing_enabled(False)
        return max(0, psutil.Process().memory_info().rss - before)

    def _warmup_and_capture(self, desc: BatchDescriptor, *args: Any, **kwargs: Any) -> None:
        current_device().faults.strike("warmup", desc.num_tokens)
        super()._warmup_and_capture(desc, *args, **kwargs)
