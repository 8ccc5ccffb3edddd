"""One engine from its start to its end: an engine core, its workers, and the driver of their capture group."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from ascend_serve.capture.client import DriverClient
from ascend_serve.replica.replanner import Replanner

if TYPE_CHECKING:
    from ascend_serve.engine.async_llm import ServedLLM

_END_SECONDS = 2.0


class EngineRun:
    """An engine that can answer. Made by `EngineLauncher`.

    Args:
        llm: vLLM's engine.
        driver: The driver of its capture group; ``None`` when it is gone.
        replanner: Counts what the engine decodes.

    Attributes:
        llm: vLLM's engine.
    """

    def __init__(self, llm: ServedLLM, driver: DriverClient | None, replanner: Replanner) -> None:
        self.llm = llm
        self._driver = driver
        self._replanner = replanner
        self._replanning: asyncio.Task[None] | None = None

    @property
    def is_occupied(self) -> bool:
        """Whether the ranks capture other graphs or write traces just now, and answer nothing else."""
        return self._replanner.is_capturing or self.llm.is_profiling

    async def steps(self) -> tuple[dict[int, int], dict[int, int]]:
        """Steps since the start by their tokens: uniform decodes, and all others."""
        return await self._replanner.steps()

    def follow_load(self, sizes: Sequence[int], before_change: Callable[[], Awaitable[None]]) -> None:
        """Let capture sizes follow the load from now on.

        Args:
            sizes: Sizes that are captured now, ascending, in tokens.
            before_change: Takes note of what was counted while a plan held that is about to change.
        """
        self._replanning = asyncio.create_task(self._replanner.watch(tuple(sizes), before_change))

    async def loss(self) -> str:
        """Wait until a worker process is lost, and tell which; empty when nobody can."""
        return "" if self._driver is None else await self._driver.loss()

    async def standstill(self) -> str:
        """Where ranks stand still, as far as they can tell; empty when nobody can."""
        return "" if self._driver is None else await self._driver.standstill()

    async def end(self) -> None:
        """End the engine core and its workers; what was under way stays with vLLM's front end."""
        self._stop_replanning()
        await self.llm.end_core(_END_SECONDS)

    def shutdown(self) -> None:
        """End the engine core and its workers."""
        self._stop_replanning()
        self.llm.shutdown()

    def _stop_replanning(self) -> None:
        if self._replanning is not None:
            self._replanning.cancel()
