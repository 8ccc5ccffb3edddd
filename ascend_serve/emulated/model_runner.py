"""vLLM's CPU model runner with capture and replay. Checked against vLLM 0.32.0 (V1 model runner)."""

from __future__ import annotations

from typing import Any

import psutil
import torch
from vllm.compilation.monitor import set_cudagraph_capturing_enabled
from vllm.config import CUDAGraphMode, VllmConfig
from vllm.forward_context import BatchDescriptor, get_forward_context
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

from ascend_serve.emulated.acl_graph import ACLGraphWrapper
from ascend_serve.emulated.device import current_device
from ascend_serve.emulated.forward_time import ForwardTime, padded_tokens, stand_in_for_cuda
from ascend_serve.emulated.generator import remember_draws
from ascend_serve.emulated.xlite import OPTIONS, XliteWrapper


class EmulatedNPUModelRunner(CPUModelRunner):
    """Captures what the dispatcher lists and replays it, as vllm-ascend's ``NPUModelRunner`` does."""

    model: Any
    xlite_model: XliteWrapper | None = None

    def __init__(self, vllm_config: VllmConfig, device: torch.device) -> None:
        stand_in_for_cuda()
        super().__init__(vllm_config, device)
        self._time = ForwardTime(vllm_config)

    def load_model(self, load_dummy_weights: bool = False) -> None:
        """Load the model and wrap it where full graphs are wanted."""
        super().load_model(load_dummy_weights)
        if self.compilation_config.cudagraph_mode.has_full_cudagraphs():
            self.model = ACLGraphWrapper(self.model, self.vllm_config, CUDAGraphMode.FULL)
        if self.vllm_config.additional_config.get(OPTIONS, {}).get("enabled"):
            # As vllm-ascend's ``XliteModelRunner``: the wrapper stays at hand when the model goes on without it.
            self.model = self.xlite_model = XliteWrapper(self.model, self.vllm_config)

    def get_model(self) -> torch.nn.Module:
        """The model itself, whatever a graph runtime put around it: vLLM asks its class what it can do."""
        return self.model if isinstance(self.model, torch.nn.Module) else self.model.unwrap()

    def initialize_kv_cache(self, *args: Any, **kwargs: Any) -> None:
        """Allocate the KV caches, and hand them to Xlite where it runs."""
        super().initialize_kv_cache(*args, **kwargs)
        if self.xlite_model is not None:
            self.xlite_model.register_kv_caches(self.kv_caches)

    def _sample(self, *args: Any, **kwargs: Any) -> Any:
        """Sample; of prompts that are not whole yet vLLM takes the draw back, by the offset of a device's generator."""
        remember_draws(self.input_batch, self.requests)
        return super()._sample(*args, **kwargs)

    def _model_forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the forward pass as work of the device; Xlite's program is launched as one, as a graph is."""
        context = get_forward_context()
        is_program = self.xlite_model is not None and self.model is self.xlite_model
        mode = CUDAGraphMode.FULL if is_program else context.cudagraph_runtime_mode
        with self._time.forward(padded_tokens(context, kwargs), mode):
            return super()._model_forward(*args, **kwargs)

    def _to_list(self, sampled_token_ids: torch.Tensor) -> list[list[int]]:
        current_device().clock.wait()
        return super()._to_list(sampled_token_ids)

    def _sync_device(self) -> None:
        current_device().clock.wait()

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
