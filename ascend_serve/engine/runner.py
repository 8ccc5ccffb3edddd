"""The seam into the model runner: its dispatcher, its graph wrappers, and the hook at ``_warmup_and_capture``.

Checked against vLLM 0.23.0 and 0.32.0 (``GPUModelRunner``, ``CudagraphDispatcher``, ``CUDAGraphWrapper``) and
vllm-ascend 0.23.0 (``NPUModelRunner``, ``ACLGraphWrapper``, ``GraphParams``).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vllm.config import CUDAGraphMode
from vllm.forward_context import BatchDescriptor
from vllm.platforms import current_platform
from vllm.utils.import_utils import resolve_obj_by_qualname

from ascend_serve.engine.expected import expected
from ascend_serve.engine.graph_config import set_graphs
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import GraphMode

CaptureOne = Callable[[], None]

_NEEDED = (
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
"""What the session and the canary use of a model runner."""


@dataclass
class CaptureWatch:
    """Where inside ``_warmup_and_capture`` a rank is."""

    capturing: bool = False


class RunnerSeam:
    """A model runner as graph runtimes and the capture session see it. Implements ``runtimes.base.GraphHost``.

    Args:
        runner: vLLM's V1 model runner of this worker.

    Attributes:
        runner: The same.
    """

    def __init__(self, runner: Any) -> None:
        self.runner = runner

    def check(self) -> None:
        """Make sure that this is a runner as the session knows it.

        Raises:
            VendorInterfaceError: It is another one, such as vLLM's Model Runner V2.
        """
        for name in _NEEDED:
            expected(self.runner, name)

    @property
    def _compilation(self) -> Any:
        return self.runner.compilation_config

    @property
    def mode(self) -> GraphMode:
        """The mode that holds on this rank, after vLLM's narrowing."""
        return GraphMode(self._compilation.cudagraph_mode.name)

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

    def capture_model(self) -> None:
        """Walk vLLM's capture loop over the graphs that are dispatched now."""
        self.runner.capture_model()

    def change_pool(self) -> None:
        """Capture into another memory pool from here on, after the device refused to begin a capture.

        torch_npu begins to allocate from the pool before it asks the device, and does not end that when the device
        refuses: the next capture with the pool fails, "already recording to mempool_id" (run with 2.13).
        """
        pool = current_platform.graph_pool_handle()
        for wrapper in _wrappers():
            wrapper.graph_pool = pool

    def dispatch(self, mode: GraphMode, capture_sizes: tuple[int, ...]) -> None:
        """Make the next steps replay graphs of ``mode``, padded to ``capture_sizes``."""
        set_graphs(self._compilation, mode, capture_sizes)
        dispatcher = self.runner.cudagraph_dispatcher
        for keys in dispatcher.cudagraph_keys.values():
            keys.clear()
        dispatcher.initialize_cudagraph_keys(CUDAGraphMode[mode.name], self.runner.uniform_decode_query_len)
        _make_room_for_graph_params(capture_sizes)

    def held(self) -> frozenset[GraphKey]:
        """Graphs that every wrapper of their kind can replay."""
        holders: dict[str, list[set[GraphKey]]] = {}
        for wrapper in _wrappers():
            held = {graph_key(desc, wrapper.runtime_mode) for desc, entry in _entries(wrapper).items() if _graph(entry)}
            holders.setdefault(wrapper.runtime_mode.name, []).append(held)
        complete = (frozenset.intersection(*map(frozenset, sets)) for sets in holders.values())
        return frozenset[GraphKey]().union(*complete)

    def release(self, keys: Iterable[GraphKey]) -> None:
        """Give back graphs, whole or half made, and the streams and memory they hold."""
        doomed = frozenset(keys)
        for wrapper in _wrappers():
            entries = _entries(wrapper)
            for desc in [desc for desc in entries if graph_key(desc, wrapper.runtime_mode) in doomed]:
                _reset(entries.pop(desc))
        _forget_graph_params({key.num_tokens for key in doomed if key.kind is GraphMode.FULL})


def graph_key(desc: BatchDescriptor, mode: CUDAGraphMode) -> GraphKey:
    """Our key of the graph that vLLM calls ``desc`` in the runtime mode ``mode``."""
    return GraphKey(GraphMode(mode.name), desc.num_tokens, desc.num_reqs, desc.uniform, desc.num_active_loras)


def _wrappers() -> Iterator[Any]:
    wrapper_class = resolve_obj_by_qualname(current_platform.get_static_graph_wrapper_cls())
    module = sys.modules[wrapper_class.__module__]
    # vllm-ascend 0.23.0 keeps its wrappers in the module, vLLM's CUDAGraphWrapper in the class.
    if hasattr(module, "_acl_graph_wrappers"):
        yield from list(module._acl_graph_wrappers)
    else:
        yield from list(expected(wrapper_class, "_all_instances"))


def _entries(wrapper: Any) -> dict[BatchDescriptor, Any]:
    entries: dict[BatchDescriptor, Any] = expected(wrapper, "concrete_aclgraph_entries", "concrete_cudagraph_entries")
    return entries


def _graph(entry: Any) -> Any:
    return expected(entry, "aclgraph", "cudagraph")


def _reset(entry: Any) -> None:
    graph = _graph(entry)
    if graph is not None:
        graph.reset()


def _forget_graph_params(sizes: set[int]) -> None:
    """Drop what vllm-ascend noted per size during capture: a second capture of the size would append to it."""
    params = _graph_params()
    for size in sizes & params.attn_params.keys() if params else ():
        _clear_graph_params(params, size)


def _make_room_for_graph_params(sizes: Iterable[int]) -> None:
    """Let vllm-ascend know sizes that it was not told at start-up: ``set_graph_params`` works once."""
    params = _graph_params()
    for size in set(sizes) - params.attn_params.keys() if params else ():
        _clear_graph_params(params, size)


def _graph_params() -> Any:
    module = sys.modules.get("vllm_ascend.compilation.acl_graph")
    return expected(module, "get_graph_params")() if module else None


def _clear_graph_params(params: Any, size: int) -> None:
    params.events[size], params.handles[size], params.attn_params[size] = [], [], []
    params.workspaces[size] = None
