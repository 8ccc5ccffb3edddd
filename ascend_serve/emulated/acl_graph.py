"""Capture and replay of a runnable, keyed by vLLM's batch descriptor.

The attributes are those of vllm-ascend's ``ACLGraphWrapper`` (checked against 0.23.0), so that one graph runtime serves
the real device and the emulated one. vLLM's dispatcher talks to it through the forward context (checked against vLLM
0.32.0).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from vllm import envs
from vllm.compilation.counter import compilation_counter
from vllm.compilation.cuda_graph import CUDAGraphOptions
from vllm.compilation.monitor import validate_cudagraph_capturing_enabled
from vllm.config import CUDAGraphMode, VllmConfig
from vllm.forward_context import BatchDescriptor, get_forward_context, is_forward_context_available
from vllm.platforms import current_platform

from ascend_serve.emulated.device import current_device
from ascend_serve.emulated.npu_graph import NPUGraph, graph

_acl_graph_wrappers: weakref.WeakSet[ACLGraphWrapper] = weakref.WeakSet()


@dataclass(slots=True)
class ACLGraphEntry:
    """One captured graph.

    Attributes:
        batch_descriptor: Its key.
        aclgraph: The graph.
        output: What the runnable returned; rewritten in place by every replay.
        input_addresses: Addresses of the tensors it was captured with; replay reads from there.
    """

    batch_descriptor: BatchDescriptor
    aclgraph: NPUGraph
    output: Any
    input_addresses: list[int]


class ACLGraphWrapper:
    """Runs ``runnable``, or captures and replays it where the forward context says so.

    Args:
        runnable: The model or one piece of it.
        vllm_config: vLLM's configuration.
        runtime_mode: The kind of graph: ``FULL`` around the model, ``PIECEWISE`` around each piece.
        cudagraph_options: What vLLM's piecewise backend hands over. Outputs are static buffers
            here anyway, so it is only held for whoever reads it.
    """

    def __init__(
        self,
        runnable: Callable[..., Any],
        vllm_config: VllmConfig,
        runtime_mode: CUDAGraphMode,
        cudagraph_options: CUDAGraphOptions | None = None,
    ) -> None:
        if runtime_mode is CUDAGraphMode.NONE:
            raise ValueError("a graph wrapper is FULL or PIECEWISE, not NONE")
        self.runnable = runnable
        self.vllm_config = vllm_config
        self.runtime_mode = runtime_mode
        self.compilation_config = vllm_config.compilation_config
        self.aclgraph_options = cudagraph_options or CUDAGraphOptions()
        self.graph_pool = current_platform.get_global_graph_pool()
        self.is_debugging_mode = envs.VLLM_LOGGING_LEVEL == "DEBUG"
        self.concrete_aclgraph_entries: dict[BatchDescriptor, ACLGraphEntry] = {}
        _acl_graph_wrappers.add(self)

    def __getattr__(self, key: str) -> Any:
        """Everything else is the runnable's."""
        if key == "runnable":
            raise AttributeError(key)
        return getattr(self.runnable, key)

    def unwrap(self) -> Callable[..., Any]:
        """The runnable itself."""
        return self.runnable

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run, capture or replay, as the forward context says.

        Raises:
            RuntimeError: A capture failed, or one was needed outside of the capture phase.
        """
        if not is_forward_context_available():
            return self.runnable(*args, **kwargs)
        context = get_forward_context()
        if context.cudagraph_runtime_mode != self.runtime_mode:
            return self.runnable(*args, **kwargs)
        entry = self.concrete_aclgraph_entries.get(context.batch_descriptor)
        if entry is None:
            entry = self._capture(context.batch_descriptor, args, kwargs)
            self.concrete_aclgraph_entries[entry.batch_descriptor] = entry
            return entry.output
        if self.is_debugging_mode:
            _check_addresses(entry, _addresses(args, kwargs))
        entry.aclgraph.replay()
        return entry.output

    def _capture(self, descriptor: BatchDescriptor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ACLGraphEntry:
        validate_cudagraph_capturing_enabled()
        faults = current_device().faults
        faults.strike_capture_begin(descriptor.num_tokens)
        aclgraph = NPUGraph()
        with (
            graph(aclgraph, pool=self.graph_pool),
            faults.during_capture(descriptor.num_tokens) or nullcontext(),
        ):
            output = self.runnable(*args, **kwargs)
        compilation_counter.num_cudagraph_captured += 1
        return ACLGraphEntry(descriptor, aclgraph, output, _addresses(args, kwargs))


def _addresses(args: Iterable[Any], kwargs: dict[str, Any]) -> list[int]:
    def tensors() -> Iterator[torch.Tensor]:
        return (value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor))

    return [tensor.data_ptr() for tensor in tensors()]


def _check_addresses(entry: ACLGraphEntry, addresses: list[int]) -> None:
    if addresses != entry.input_addresses:
        raise RuntimeError(
            f"Input addresses of {entry.batch_descriptor} differ between capture and replay: "
            f"captured with {entry.input_addresses}, replayed with {addresses}"
        )
