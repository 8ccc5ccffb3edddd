"""One interface for all graph runtimes, and what a runtime needs of the model runner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Protocol

from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import CapturePlan


class GraphHost(Protocol):
    """The model runner as a runtime sees it; ``engine/`` implements it on vLLM's runner."""

    def dispatch(self, mode: GraphMode, capture_sizes: tuple[int, ...]) -> None:
        """Make the next steps replay graphs of ``mode``, padded to ``capture_sizes``."""

    def held(self) -> frozenset[GraphKey]:
        """Graphs that can be replayed."""

    def release(self, keys: Iterable[GraphKey]) -> None:
        """Give back graphs, and the streams and memory they hold."""

    def use_whole_model_program(self, on: bool) -> None:
        """Send forwards through the program that Xlite built at load, or none of them."""


class GraphRuntime(ABC):
    """What a rank replays with."""

    name: ClassVar[RuntimeName]

    def __init__(self, host: GraphHost) -> None:
        self._host = host

    @abstractmethod
    def apply(self, plan: CapturePlan, kept: frozenset[GraphKey]) -> None:
        """Follow ``plan`` from the next step on; graphs that are not in ``kept`` are released."""

    def held(self) -> frozenset[GraphKey]:
        """Graphs that can be replayed."""
        return self._host.held()
