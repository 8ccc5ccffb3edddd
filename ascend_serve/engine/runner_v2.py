"""vLLM's Model Runner V2: its graph manager, and the hook at the manager's capture loop.

Checked against vLLM 0.26.0 to 0.33.0 (``CudaGraphManager``, ``ModelCudaGraphManager``) and vllm-ascend 0.26.0rc1 and
0.30.0rc2 (``ModelAclGraphManager``, which is one of those). Full graphs lie in the manager, piecewise ones in wrappers
as ever. Its kernels are defined when its modules are imported, so nothing here imports them before a runner is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from vllm.config import CUDAGraphMode
from vllm.distributed.parallel_state import get_pp_group

from ascend_serve.engine.expected import expected
from ascend_serve.engine.graph_config import set_graphs
from ascend_serve.engine.graph_wrappers import (
    held_by_wrappers,
    make_room_for_graph_params,
    new_pool_for_wrappers,
    release_from_wrappers,
)
from ascend_serve.engine.runner import CANARY_TOKENS, CaptureOne, RunnerSeam
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import GraphMode
from ascend_serve.graph.plan import Adjustment

_NEEDED_OF_MANAGER = ("_candidates", "_capture_descs", "_init_candidates", "cudagraph_mode", "graphs", "pool")

Forward = Callable[[CUDAGraphMode], None]
CreateForward = Callable[..., Forward]


class SecondRunnerSeam(RunnerSeam):
    """Graphs lie in a manager, whose loop is entered once for each of them."""

    needed = (
        "_dummy_run",
        "capture_model",
        "compilation_config",
        "cudagraph_manager",
        "execute_model",
        "get_model",
        "is_pooling_model",
        "max_num_tokens",
        "speculator",
    )

    def check(self) -> None:
        """Make sure that this is a runner as it is known here, and so is its manager.

        Raises:
            VendorInterfaceError: One of them is another.
        """
        super().check()
        for name in _NEEDED_OF_MANAGER:
            expected(self._manager, name)

    @property
    def _manager(self) -> Any:
        return self.runner.cudagraph_manager

    def notes(self) -> tuple[Adjustment, ...]:
        """That graphs of a speculator are not captured: it has managers of its own, whose graphs no plan knows."""
        managers = (value for value in vars(self.runner.speculator or object).values() if hasattr(value, "graphs"))
        if self.mode is GraphMode.NONE or not any(managers):
            return ()
        reason = "Model Runner V2 captures drafts past the agreement of the ranks, so that they run without graphs"
        return (Adjustment("drafts-of-model-runner-v2", self.mode.value, GraphMode.NONE.value, reason),)

    @contextmanager
    def hooked(self, capture: Callable[[GraphKey, CaptureOne], None]) -> Iterator[None]:
        """While it lasts, the loop of the model's manager calls ``capture(key, original)`` for every graph."""
        from vllm.v1.worker.gpu.cudagraph_utils import CudaGraphManager

        loop: Any = expected(CudaGraphManager, "capture")

        def capture_each(manager: Any, create_forward_fn: CreateForward, *args: Any, **options: Any) -> None:
            if manager is self._manager:
                create = self._watched(create_forward_fn)
                self._capture_each(capture, lambda: loop(manager, create, *args, **options))

        CudaGraphManager.capture = capture_each
        try:
            yield
        finally:
            CudaGraphManager.capture = loop

    def _capture_each(self, capture: Callable[[GraphKey, CaptureOne], None], loop: Callable[[], None]) -> None:
        manager, descriptors = self._manager, self._manager._capture_descs

        def one(mode: CUDAGraphMode, desc: Any) -> CaptureOne:
            def original() -> None:
                manager._capture_descs = {mode: [desc]}
                loop()

            return original

        try:
            # vLLM's order: what piecewise graphs leave in the memory pool is room enough for full ones.
            for mode in (CUDAGraphMode.PIECEWISE, CUDAGraphMode.FULL):
                for desc in descriptors.get(mode, ()):
                    capture(_key(desc), one(mode, desc))
        finally:
            manager._capture_descs = descriptors

    def _watched(self, create_forward_fn: CreateForward) -> CreateForward:
        """Note where the capture is: the device is asked once a forward pass has been created for it."""

        def create(desc: Any, warmup: bool) -> Forward:
            if not warmup:
                self._make_room(desc)
            forward = create_forward_fn(desc, warmup=warmup)
            self._watch.capturing = not warmup

            def run(mode: CUDAGraphMode) -> None:
                self._watch.capturing = not warmup or mode is not CUDAGraphMode.NONE
                forward(mode)

            return run

        return create

    def _make_room(self, desc: Any) -> None:
        """Make what full graphs write to large enough for all that may be captured later.

        vLLM makes it as large as the first graph, which is the largest of the start, but need not be of another plan.
        """
        manager = self._manager
        if manager.graphs:
            return
        per_request = desc.uniform_token_count
        rows = per_request * manager.max_num_reqs if per_request else self.runner.max_num_tokens
        if manager.hidden_states is not None:
            manager.hidden_states = _with_rows(manager.hidden_states, rows)
        manager.aux_hidden_states = [_with_rows(tensor, rows) for tensor in manager.aux_hidden_states]
        if manager.intermediate_tensors is not None:
            tensors = manager.intermediate_tensors.tensors
            tensors.update({name: _with_rows(tensor, rows) for name, tensor in tensors.items()})

    def change_pool(self) -> None:
        """Capture into another memory pool from here on."""
        self._manager.pool = new_pool_for_wrappers()

    def dispatch(self, mode: GraphMode, capture_sizes: tuple[int, ...]) -> None:
        """Make the next steps replay graphs of ``mode``, padded to ``capture_sizes``."""
        set_graphs(self.runner.compilation_config, mode, capture_sizes)
        manager = self._manager
        manager.cudagraph_mode = CUDAGraphMode[mode.name]
        manager._candidates.clear()
        manager._capture_descs = {}
        manager._init_candidates()
        make_room_for_graph_params(desc.num_tokens for descs in manager._capture_descs.values() for desc in descs)

    def held(self) -> frozenset[GraphKey]:
        """Graphs in the manager, and those that every wrapper of a piece can replay."""
        return held_by_wrappers() | {_key(desc) for desc in self._manager.graphs}

    def release(self, keys: Iterable[GraphKey]) -> None:
        """Give back graphs, whole or half made, and the streams and memory they hold."""
        doomed = frozenset(keys)
        graphs = self._manager.graphs
        for desc in [desc for desc in graphs if _key(desc) in doomed]:
            graphs.pop(desc).reset()
        release_from_wrappers(doomed)

    @torch.inference_mode()
    def fixed_batch(self) -> Iterable[torch.Tensor]:
        """What this rank computes of the canary's batch; as for a profile, since other dummy runs replay graphs."""
        runner = self.runner
        if not get_pp_group().is_first_rank:
            for tensor in runner.intermediate_tensors.tensors.values():
                tensor.zero_()
        with _returned(runner, "execute_model") as returned:
            hidden_states, last = runner._dummy_run(CANARY_TOKENS, is_profile=True, skip_eplb=True)
        if not get_pp_group().is_last_rank:
            tensors: Mapping[str, torch.Tensor] = returned[-1].tensors
            return tuple(tensors.values())
        if runner.is_pooling_model:
            return (hidden_states,)
        logits = runner.get_model().compute_logits(last)
        # Tensor-parallel ranks other than the first may get no logits from the gather.
        return (last if logits is None else logits,)

    def continue_requests(self) -> None:
        """Nothing to do: the scheduler sends all tokens of a request, and seeds go by the place of a token."""


def _key(desc: Any) -> GraphKey:
    """Our key of the graph that Model Runner V2 calls ``desc``."""
    uniform = desc.uniform_token_count is not None
    return GraphKey(GraphMode(desc.cg_mode.name), desc.num_tokens, desc.num_reqs, uniform, desc.num_active_loras)


def _with_rows(tensor: torch.Tensor, rows: int) -> torch.Tensor:
    return tensor if tensor.shape[0] >= rows else tensor.new_empty((rows, *tensor.shape[1:]))


@contextmanager
def _returned(owner: Any, method: str) -> Iterator[list[Any]]:
    """While it lasts, note what a method of ``owner`` returns."""
    original, returned = getattr(owner, method), []

    def noted(*args: Any, **options: Any) -> Any:
        returned.append(original(*args, **options))
        return returned[-1]

    setattr(owner, method, noted)
    try:
        yield returned
    finally:
        delattr(owner, method)
