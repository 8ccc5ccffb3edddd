"""The graph manager of vLLM's Model Runner V2 on an emulated NPU. Checked against vLLM 0.32.0."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from vllm.forward_context import set_forward_context
from vllm.v1.worker.gpu import cudagraph_utils
from vllm.v1.worker.gpu.attn_utils import build_slot_mappings_by_layer
from vllm.v1.worker.gpu.cudagraph_utils import BatchExecutionDescriptor, CudaGraphManager, ModelCudaGraphManager

from ascend_serve.emulated.clock import Stream
from ascend_serve.emulated.device import current_device
from ascend_serve.emulated.forward_time import ForwardTime
from ascend_serve.emulated.npu_graph import NPUGraph, graph


class CaptureStream(Stream):
    """The stream that a graph is captured on, which knows its size.

    Args:
        num_tokens: Of the graph.
    """

    def __init__(self, num_tokens: int) -> None:
        super().__init__()
        self.num_tokens = num_tokens


class FaultyGraph(graph):
    """``torch.npu.graph``, in which scripted faults strike.

    Args:
        npu_graph: The graph to capture into.
        pool: Memory pool to share.
        stream: What it is captured on.
    """

    def __init__(self, npu_graph: NPUGraph, pool: Any, *, stream: CaptureStream) -> None:
        super().__init__(npu_graph, pool)
        self._num_tokens = stream.num_tokens
        self._fault: AbstractContextManager[Any] = nullcontext()

    def __enter__(self) -> None:
        faults = current_device().faults
        faults.strike_capture_begin(self._num_tokens)
        super().__enter__()
        self._fault = faults.during_capture(self._num_tokens) or nullcontext()
        self._fault.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._fault.__exit__(*error)
        super().__exit__(*error)


class _FaultyWarmup(CudaGraphManager):
    """Lets scripted faults strike when a graph is warmed up."""

    def capture(self, create_forward_fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        def create(desc: BatchExecutionDescriptor, warmup: bool) -> Callable[..., None]:
            if warmup:
                current_device().faults.strike("warmup", desc.num_tokens)
            return create_forward_fn(desc, warmup)

        super().capture(create, *args, **kwargs)


class EmulatedGraphManager(ModelCudaGraphManager, _FaultyWarmup):
    """Captures and replays on the emulated device.

    The attention of a replayed graph looks up the metadata of its own step, so a replay has a forward context, as in
    vllm-ascend's ``ModelAclGraphManager.run_fullgraph``, which updates the graph's tasks from it.
    """

    step: tuple[Any, ...]
    time: ForwardTime

    def follow(self, model_state: Any, time: ForwardTime) -> None:
        """Remember what attention is told for each step, and let replays take the time of forward passes."""
        self.time = time
        prepare = model_state.prepare_attn

        def prepare_attn(*args: Any, **kwargs: Any) -> Any:
            metadata = prepare(*args, **kwargs)
            slot_mappings, kv_cache_config = args[3], args[5]
            self.step = metadata, build_slot_mappings_by_layer(slot_mappings, kv_cache_config)
            return metadata

        model_state.prepare_attn = prepare_attn

    def run_fullgraph(self, desc: BatchExecutionDescriptor) -> Any:
        """Replay the graph of ``desc`` on the metadata of this step."""
        metadata, slot_mappings = self.step
        context = set_forward_context(
            metadata,
            self.vllm_config,
            num_tokens=desc.num_tokens,
            cudagraph_runtime_mode=desc.cg_mode,
            slot_mapping=slot_mappings,
        )
        with context, self.time.forward(desc.num_tokens, desc.cg_mode):
            return super().run_fullgraph(desc)

    def _capture_stream(self, desc: BatchExecutionDescriptor) -> CaptureStream:
        return CaptureStream(desc.num_tokens)


def stand_in_for_cuda_graphs() -> None:
    """Let what Model Runner V2 does with CUDA's graphs mean those of the emulated device.

    Of the contexts that vLLM enters on a GPU, ``graph_capture`` is left out, as it wants communicators of CUDA;
    vllm-ascend exchanges them (``communicator_switch``).
    """
    torch.cuda.CUDAGraph = NPUGraph
    torch.cuda.graph = FaultyGraph
    cudagraph_utils.graph_capture = lambda device: nullcontext()
