"""The two NPUs that keep the same promises: the emulated one, and torch_npu on the simulated CANN."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

PoolHandle = tuple[int, int]


@dataclass(frozen=True)
class Backend:
    """An NPU as the cases see it.

    Attributes:
        device: Where its tensors are.
        npu_graph: Its ``NPUGraph``.
        graph: Its context that captures.
        graph_pool_handle: Makes handles of memory pools.
        streams_left: Leaves room for some more captured graphs, while it lasts.
        streams_taken: Streams that are taken now.
    """

    device: str
    npu_graph: Callable[[], Any]
    graph: Callable[..., AbstractContextManager[Any]]
    graph_pool_handle: Callable[[], PoolHandle]
    streams_left: Callable[[int], AbstractContextManager[None]]
    streams_taken: Callable[[], int]


def emulated() -> Backend:
    """The emulated NPU, with a device of its own."""
    from ascend_serve.emulated.device import EmulatedDevice, current_device, initialize_device
    from ascend_serve.emulated.npu_graph import NPUGraph, graph, graph_pool_handle

    initialize_device(EmulatedDevice())

    @contextmanager
    def streams_left(count: int) -> Iterator[None]:
        streams = current_device().streams
        before, streams.quota = streams.quota, streams.used + count
        yield
        streams.quota = before

    return Backend("cpu", NPUGraph, graph, graph_pool_handle, streams_left, lambda: current_device().streams.used)


def torch_npu() -> Backend:
    """torch_npu, on whatever CANN it finds."""
    import torch

    from tests.cann_sim import control

    npu = torch.npu
    return Backend("npu", npu.NPUGraph, npu.graph, npu.graph_pool_handle, control.streams_left, control.streams_taken)
