"""vLLM's CPU model runner with capture and replay. Checked against vLLM 0.32.0 (V1 model runner)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import psutil
import torch
from vllm.compilation.monitor import set_cudagraph_capturing_enabled
from vllm.config import CompilationMode, CUDAGraphMode, VllmConfig
from vllm.distributed.parallel_state import get_pp_group
from vllm.forward_context import BatchDescriptor, ForwardContext, get_forward_context
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

from ascend_serve.emulated.acl_graph import ACLGraphWrapper
from ascend_serve.emulated.clock import DeviceEvent, Stream
from ascend_serve.emulated.device import current_device
from ascend_serve.emulated.generator import remember_draws
from ascend_serve.emulated.launches import LaunchCount
from ascend_serve.emulated.npugraph_ex import graph_launches
from ascend_serve.emulated.xlite import OPTIONS, XliteWrapper


class EmulatedNPUModelRunner(CPUModelRunner):
    """Captures what the dispatcher lists and replays it, as vllm-ascend's ``NPUModelRunner`` does."""

    model: Any
    xlite_model: XliteWrapper | None = None

    def __init__(self, vllm_config: VllmConfig, device: torch.device) -> None:
        _stand_in_for_cuda()
        super().__init__(vllm_config, device)
        self._operators = current_device().time.operators
        # What the platform decided: npugraph_ex that was asked for may not take the model.
        self._is_compiled = self.compilation_config.mode is CompilationMode.DYNAMO_TRACE_ONCE

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
        """Run the forward pass as work of the device; as long as none takes time, there is nothing to add."""
        device = current_device()
        if not device.time:
            return super()._model_forward(*args, **kwargs)
        context = get_forward_context()
        with device.clock.work(
            device.time.of_step(_padded_tokens(context, kwargs)),
            device.time.launch * self._launches(context.cudagraph_runtime_mode),
        ):
            output = self._counted_forward(*args, **kwargs)
        if not get_pp_group().is_last_rank:
            # The next stage gets the output over the host.
            device.clock.wait()
        return output

    def _launches(self, mode: CUDAGraphMode) -> int:
        """Operators and graphs that the host launches for a step; Xlite's program is launched as one."""
        if mode is CUDAGraphMode.FULL or (self.xlite_model is not None and self.model is self.xlite_model):
            return 1
        if mode is CUDAGraphMode.PIECEWISE:
            # Between pieces there is attention, which writes to the KV cache first.
            layers = self.model_config.get_num_layers(self.parallel_config)
            return 3 * layers + 1
        return self._operators

    def _counted_forward(self, *args: Any, **kwargs: Any) -> Any:
        """The forward pass; an eager one is counted once, as it launches the same at any size."""
        if self._operators or get_forward_context().cudagraph_runtime_mode is not CUDAGraphMode.NONE:
            return super()._model_forward(*args, **kwargs)
        with graph_launches() if self._is_compiled else LaunchCount() as count:
            output = super()._model_forward(*args, **kwargs)
        self._operators = count.operators
        return output

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


def _padded_tokens(context: ForwardContext, inputs: dict[str, Any]) -> int:
    if context.batch_descriptor is not None:
        return int(context.batch_descriptor.num_tokens)
    given = inputs.get("input_ids")
    return int((given if given is not None else inputs["inputs_embeds"]).shape[0])


def _stand_in_for_cuda() -> None:
    """Let what vLLM's model runner does with CUDA's streams and events mean those of the emulated device.

    It names them as ``torch.cuda``'s, where vllm-ascend puts torch_npu's in their place (0.23.0).
    """
    torch.cuda.Event = lambda **options: DeviceEvent(current_device().clock)
    torch.cuda.Stream = Stream
    torch.cuda.current_stream = Stream
    torch.cuda.stream = nullcontext
