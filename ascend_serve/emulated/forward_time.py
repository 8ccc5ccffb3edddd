"""Forward passes as work of the emulated device, for both of vLLM's model runners. Checked against vLLM 0.32.0."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from vllm.config import CompilationMode, CUDAGraphMode, VllmConfig
from vllm.distributed.parallel_state import get_pp_group
from vllm.forward_context import ForwardContext

from ascend_serve.emulated.clock import DeviceEvent, Stream
from ascend_serve.emulated.device import current_device
from ascend_serve.emulated.launches import LaunchCount
from ascend_serve.emulated.npugraph_ex import graph_launches


class ForwardTime:
    """Lets the forward passes of one model take the time that its device is said to take.

    Args:
        vllm_config: vLLM's configuration, as the platform left it.

    Attributes:
        is_step: Whether passes are those of a step; what vLLM tries out or captures takes no time.
    """

    def __init__(self, vllm_config: VllmConfig) -> None:
        self.is_step = True
        self._operators = current_device().time.operators
        # What the platform decided: npugraph_ex that was asked for may not take the model.
        self._is_compiled = vllm_config.compilation_config.mode is CompilationMode.DYNAMO_TRACE_ONCE
        # Between pieces there is attention, which writes to the KV cache first.
        self._pieces = 3 * vllm_config.model_config.get_num_layers(vllm_config.parallel_config) + 1

    @contextmanager
    def forward(self, num_tokens: int, mode: CUDAGraphMode) -> Iterator[None]:
        """What the block computes is one forward pass; where it takes no time, there is nothing to add.

        Args:
            num_tokens: Of the padded batch.
            mode: ``FULL`` where the host launches it as one, ``PIECEWISE`` as pieces, ``NONE`` operator by operator.
        """
        device = current_device()
        if not (device.time and self.is_step):
            yield
            return
        launches = {CUDAGraphMode.FULL: 1, CUDAGraphMode.PIECEWISE: self._pieces}.get(mode, self._operators)
        with device.clock.work(device.time.of_step(num_tokens), device.time.launch * launches), self._counted(mode):
            yield
        if get_pp_group().world_size > 1:
            # The other stages get what it computed, and its tokens, over the host.
            device.clock.wait()

    @contextmanager
    def _counted(self, mode: CUDAGraphMode) -> Iterator[None]:
        """Count an eager pass once, as it launches the same at any size."""
        if self._operators or mode is not CUDAGraphMode.NONE:
            yield
            return
        with graph_launches() if self._is_compiled else LaunchCount() as count:
            yield
        self._operators = count.operators


def padded_tokens(context: ForwardContext, inputs: dict[str, Any]) -> int:
    """Tokens of the padded batch of a forward pass.

    Args:
        context: That vLLM set for it.
        inputs: Of the model.
    """
    if context.batch_descriptor is not None:
        return int(context.batch_descriptor.num_tokens)
    # Tokens and embeddings are the first stage's alone; some models have several rows of positions.
    return int(inputs["positions"].shape[-1])


def stand_in_for_cuda() -> None:
    """Let what vLLM's model runners do with CUDA's streams and events mean those of the emulated device.

    They name them as ``torch.cuda``'s, where vllm-ascend puts torch_npu's in their place (0.23.0).
    """
    torch.cuda.Event = lambda **options: DeviceEvent(current_device().clock)
    torch.cuda.Stream = Stream
    torch.cuda.current_stream = Stream
    torch.cuda.stream = nullcontext
