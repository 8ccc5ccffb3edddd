"""Graphs that lie in wrappers of the model or of its pieces, and what vllm-ascend notes of full graphs by size.

Checked against vLLM 0.23.0 and 0.32.0 (``CUDAGraphWrapper``) and vllm-ascend 0.23.0 (``ACLGraphWrapper``,
``GraphParams``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from vllm.config import CUDAGraphMode
from vllm.forward_context import BatchDescriptor
from vllm.platforms import current_platform
from vllm.utils.import_utils import resolve_obj_by_qualname

from ascend_serve.engine.expected import expected
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import GraphMode


def graph_key(desc: BatchDescriptor, mode: CUDAGraphMode) -> GraphKey:
    """Our key of the graph that vLLM calls ``desc`` in the runtime mode ``mode``."""
    return GraphKey(GraphMode(mode.name), desc.num_tokens, desc.num_reqs, desc.uniform, desc.num_active_loras)


def held_by_wrappers() -> frozenset[GraphKey]:
    """Graphs that every wrapper of their kind can replay."""
    holders: dict[str, list[set[GraphKey]]] = {}
    for wrapper in _wrappers():
        held = {graph_key(desc, wrapper.runtime_mode) for desc, entry in _entries(wrapper).items() if _graph(entry)}
        holders.setdefault(wrapper.runtime_mode.name, []).append(held)
    complete = (frozenset.intersection(*map(frozenset, sets)) for sets in holders.values())
    return frozenset[GraphKey]().union(*complete)


def release_from_wrappers(keys: frozenset[GraphKey]) -> None:
    """Give back graphs, whole or half made, and what was noted of full ones."""
    for wrapper in _wrappers():
        entries = _entries(wrapper)
        for desc in [desc for desc in entries if graph_key(desc, wrapper.runtime_mode) in keys]:
            _reset(entries.pop(desc))
    _forget_graph_params({key.num_tokens for key in keys if key.kind is GraphMode.FULL})


def new_pool_for_wrappers() -> Any:
    """Let all wrappers capture into another memory pool.

    Returns:
        The pool.
    """
    pool = current_platform.graph_pool_handle()
    for wrapper in _wrappers():
        wrapper.graph_pool = pool
    return pool


def make_room_for_graph_params(sizes: Iterable[int]) -> None:
    """Let vllm-ascend know sizes that it was not told at start-up: ``set_graph_params`` works once."""
    params = _graph_params()
    for size in set(sizes) - params.attn_params.keys() if params else ():
        _clear_graph_params(params, size)


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


def _graph_params() -> Any:
    module = sys.modules.get("vllm_ascend.compilation.acl_graph")
    return expected(module, "get_graph_params")() if module else None


def _clear_graph_params(params: Any, size: int) -> None:
    params.events[size], params.handles[size], params.attn_params[size] = [], [], []
    params.workspaces[size] = None
