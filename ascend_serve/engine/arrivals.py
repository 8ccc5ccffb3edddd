"""Requests that have come to a replica and not yet to its engine core: those that come together go there together.

What comes at once stands in one event loop, and is parsed and tokenized in turn. An idle engine would compute the first
prompt alone while the others, ready a moment later, wait for that step and then for their own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from ascend_serve.engine.first_prompts import mark_followed

if TYPE_CHECKING:
    from vllm.v1.engine import EngineCoreRequest

_LONGEST_SECONDS = 0.005
"""How long the first of them waits for the others: less than a prompt takes on any NPU."""

_RECENT_SECONDS = 0.05
"""What came earlier than that has something else to do: a long prompt to tokenize, a page to tell."""

CLIENT: ContextVar[str] = ContextVar("client", default="")
"""Who asks, in the context of what answers. Who is not told apart from others shares with them."""

_ARRIVAL: ContextVar[object] = ContextVar("arrival", default=None)


class Arrivals:
    """Holds the first request to an idle engine core until those are there that came with it.

    Args:
        clock: Seconds that pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._coming: dict[object, float] = {}
        self._burst: _Burst | None = None

    @contextmanager
    def coming(self, client: str) -> Iterator[None]:
        """While this context lasts a request of ``client`` is answered, which may be for the engine core."""
        CLIENT.set(client)
        arrival = object()
        _ARRIVAL.set(arrival)
        self._coming[arrival] = self._clock()
        try:
            yield
        finally:
            self._is_there(arrival)

    async def together(self, request: EngineCoreRequest, *, is_idle: bool) -> None:
        """Wait until ``request`` may go to the engine core with others; most may at once.

        Args:
            request: Is marked where another one follows it.
            is_idle: Whether the engine core has nothing to do.
        """
        self._coming.pop(_ARRIVAL.get(), None)
        if self._burst is None and is_idle and self._others_are_coming():
            self._burst = _Burst()
            asyncio.get_running_loop().call_later(_LONGEST_SECONDS, self._go, self._burst)
        if (burst := self._burst) is not None:
            if not self._others_are_coming():
                self._go(burst)
            if await burst.is_followed():
                mark_followed(request)

    def _is_there(self, arrival: object) -> None:
        if self._coming.pop(arrival, None) is not None and self._burst is not None and not self._others_are_coming():
            self._go(self._burst)

    def _others_are_coming(self) -> bool:
        since = self._clock() - _RECENT_SECONDS
        return any(when >= since for when in self._coming.values())

    def _go(self, burst: _Burst) -> None:
        if burst is self._burst:
            self._burst = None
            burst.may_go.set()


class _Burst:
    """Requests that wait for others, until they may go."""

    def __init__(self) -> None:
        self.may_go = asyncio.Event()
        self._waiting = 0

    async def is_followed(self) -> bool:
        """Wait; whether another one goes behind this one."""
        self._waiting += 1
        try:
            await self.may_go.wait()
        finally:
            self._waiting -= 1
        return self._waiting > 0
