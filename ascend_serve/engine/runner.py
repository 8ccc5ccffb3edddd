"""The seam into the model runner: one interface for both of vLLM's, as runtimes and the capture session see them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ascend_serve.engine.expected import expected
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import GraphMode
from ascend_serve.graph.plan import Adjustment

if TYPE_CHECKING:
    import torch

CaptureOne = Callable[[], None]

CANARY_TOKENS = 4
"""Of the canary's batch."""


@dataclass
class CaptureWatch:
    """Where inside the capture of a graph a rank is.

    Attributes:
        capturing: Whether it is past the warm-up.
    """

    capturing: bool = False


class RunnerSeam(ABC):
    """A model runner of vLLM. Implements ``runtimes.base.GraphHost``.

    Args:
        runner: The model runner of this worker.

    Attributes:
        runner: The same.
    """

    needed: tuple[str, ...]
    """What is used of a model runner."""

    def __init__(self, runner: Any) -> None:
        self.runner = runner
        self._watch = CaptureWatch()

    def check(self) -> None:
        """Make sure that this is a runner as it is known here.

        Raises:
            VendorInterfaceError: It is another one.
        """
        for name in self.needed:
            expected(self.runner, name)

    @property
    def mode(self) -> GraphMode:
        """The mode that holds on this rank, after vLLM's narrowing."""
        return GraphMode(self.runner.compilation_config.cudagraph_mode.name)

    def notes(self) -> tuple[Adjustment, ...]:
        """What this runner does otherwise than asked."""
        return ()

    @contextmanager
    def watch_capture(self) -> Iterator[CaptureWatch]:
        """Tell while it lasts whether a graph is warmed up or captured."""
        self._watch = CaptureWatch()
        yield self._watch

    def capture_model(self) -> None:
        """Walk vLLM's capture loop over the graphs that are dispatched now."""
        self.runner.capture_model()

    @abstractmethod
    def hooked(self, capture: Callable[[GraphKey, CaptureOne], None]) -> AbstractContextManager[None]:
        """While it lasts, vLLM's capture loop calls ``capture(key, original)`` for every graph."""

    @abstractmethod
    def change_pool(self) -> None:
        """Capture into another memory pool from here on, after the device refused to begin a capture.

        torch_npu begins to allocate from the pool before it asks the device, and does not end that when the device
        refuses: the next capture with the pool fails, "already recording to mempool_id" (run with 2.13).
        """

    @abstractmethod
    def dispatch(self, mode: GraphMode, capture_sizes: tuple[int, ...]) -> None:
        """Make the next steps replay graphs of ``mode``, padded to ``capture_sizes``."""

    @abstractmethod
    def held(self) -> frozenset[GraphKey]:
        """Graphs that can be replayed."""

    @abstractmethod
    def release(self, keys: Iterable[GraphKey]) -> None:
        """Give back graphs, whole or half made, and the streams and memory they hold."""

    @abstractmethod
    def fixed_batch(self) -> Iterable[torch.Tensor]:
        """What this rank computes of the canary's batch, eager: its logits, what it pools, what the next stage gets."""

    @abstractmethod
    def continue_requests(self) -> None:
        """Let the rank of this process take requests that have output, from now on."""
