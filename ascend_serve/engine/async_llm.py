"""vLLM's engine, which tells while the ranks have to do with their profiler (0.23.0 and 0.32.0)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vllm.v1.engine.async_llm import AsyncLLM


class ProfiledLLM(AsyncLLM):
    """An engine whose traces may take minutes to write.

    Attributes:
        is_profiling: Whether the ranks start their profiler or write their traces, and answer nothing else.
    """

    is_profiling = False

    async def start_profile(self, *args: Any, **kwargs: Any) -> None:
        """Let all ranks begin to trace."""
        with self._profiling():
            await super().start_profile(*args, **kwargs)

    async def stop_profile(self) -> None:
        """Let all ranks write their traces."""
        with self._profiling():
            await super().stop_profile()

    @contextmanager
    def _profiling(self) -> Iterator[None]:
        self.is_profiling = True
        try:
            yield
        finally:
            self.is_profiling = False
