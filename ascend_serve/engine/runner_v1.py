"""vLLM's first model runner: its dispatcher, its graph wrappers, and the hook at ``_warmup_and_capture``.

Checked against vLLM 0.23.0 and 0.32.0 (``GPUModelRunner``, ``CudagraphDispatcher``) and vllm-ascend 0.23.0
(``NPUModelRunner``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from vllm.config import CUDAGraphMode
from vllm.distributed.parallel_state import get_pp_group
from vllm.forward_context import BatchDescriptor

from ascend_serve.engine.continued_state import continue_on_rank
from ascend_serve.engine.expected import expected
from ascend_serve.engine.graph_config import set_graphs
from ascend_serve.engine.graph_wrappers import (
    graph_key,
    held_by_wrappers,
    make_room_for_graph_params,
    new_pool_for_wrappers,
    release_from_wrappers,
)
from ascend_serve.engine.runner import CANARY_TOKENS, CaptureOne, CaptureWatch, RunnerSeam
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import GraphMode


class FirstRunnerSeam(RunnerSeam):
    """Graphs lie in wrappers, each is captured by a call of ``_warmup_and_capture``."""

    needed = (
        "_dummy_run",
        "_warmup_and_capture",
        "capture_model",
        "compilation_config",
        "cudagraph_dispatcher",
        "get_model",
        "input_ids",
        "positions",
        "uniform_decode_query_len",
    )

    @contextmanager
    def watch_capture(self) -> Iterator[CaptureWatch]:
        """Tell while it lasts whether vLLM's ``_dummy_run`` is warming up or capturing."""
        watch = CaptureWatch()
        dummy_run = self.runner._dummy_run

        def watched(*args: Any, **options: Any) -> Any:
            watch.capturing = bool(options.get("is_graph_capturing"))
            return dummy_run(*args, **options)

        self.runner._dummy_run = watched
        try:
            yield watch
        finally:
            del self.runner._dummy_run

    @contextmanager
    def hooked(self, capture: Callable[[GraphKey, CaptureOne], None]) -> Iterator[None]:
        """While it lasts, vLLM's capture loop calls ``capture(key, original)`` for every graph."""
        original = self.runner._warmup_and_capture

        def warmup_and_capture(desc: BatchDescriptor, cudagraph_runtime_mode: CUDAGraphMode, **options: Any) -> None:
            capture(
                graph_key(desc, cudagraph_runtime_mode),
                lambda: original(desc, cudagraph_runtime_mode=cudagraph_runtime_mode, **options),
            )

        self.runner._warmup_and_capture = warmup_and_capture
        try:
            yield
        finally:
            del self.runner._warmup_and_capture

    def change_pool(self) -> None:
        """Capture into another memory pool from here on."""
        new_pool_for_wrappers()

    def dispatch(self, mode: GraphMode, capture_sizes: tuple[int, ...]) -> None:
        """Make the next steps replay graphs of ``mode``, padded to ``capture_sizes``."""
        set_graphs(self.runner.compilation_config, mode, capture_sizes)
        dispatcher = self.runner.cudagraph_dispatcher
        for keys in dispatcher.cudagraph_keys.values():
            keys.clear()
        dispatcher.initialize_cudagraph_keys(CUDAGraphMode[mode.name], self.runner.uniform_decode_query_len)
        make_room_for_graph_params(capture_sizes)

    def held(self) -> frozenset[GraphKey]:
        """Graphs that every wrapper of their kind can replay."""
        return held_by_wrappers()

    def release(self, keys: Iterable[GraphKey]) -> None:
        """Give back graphs, whole or half made, and the streams and memory they hold."""
        release_from_wrappers(frozenset(keys))

    @torch.inference_mode()
    def fixed_batch(self) -> Iterable[torch.Tensor]:
        """What this rank computes of the canary's batch, eager."""
        runner = self.runner
        self._fill_inputs()
        hidden_states, last = runner._dummy_run(
            CANARY_TOKENS, cudagraph_runtime_mode=CUDAGraphMode.NONE, force_attention=True, skip_eplb=True
        )
        if not get_pp_group().is_last_rank:
            return tuple(hidden_states.tensors.values())
        if runner.is_pooling_model:
            # In the task with the largest output; such a model has no logits.
            return tuple(tensor for tensor in runner._dummy_pooler_run(hidden_states) if tensor is not None)
        logits = runner.get_model().compute_logits(last)
        # Tensor-parallel ranks other than the first may get no logits from the gather.
        return (last if logits is None else logits,)

    def _fill_inputs(self) -> None:
        """Overwrite what earlier steps left in the runner's persistent input buffers."""
        runner = self.runner
        positions = runner.positions
        on_device = positions if isinstance(positions, torch.Tensor) else expected(positions, "gpu")
        runner.input_ids.gpu[:CANARY_TOKENS].copy_(torch.arange(1, CANARY_TOKENS + 1))
        on_device[:CANARY_TOKENS].zero_()
        if runner.intermediate_tensors is not None:
            for tensor in runner.intermediate_tensors.tensors.values():
                tensor.zero_()

    def continue_requests(self) -> None:
        """Let the rank of this process take requests that have output, from now on."""
        continue_on_rank(self.runner)
