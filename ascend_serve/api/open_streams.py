"""Streams that have begun and wait for an engine: comments keep them open, which clients of server-sent events skip."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

PERIOD_SECONDS = 5.0
"""How often. Proxies and clients give up after some tens of seconds without a byte, as a rule."""

WAITING = b": the engine is being replaced\n\n"
REPLACED = b": the engine was replaced; what is sampled without a seed goes on with other noise\n\n"

Comment = Callable[[bytes], Coroutine[Any, Any, None]]
"""Sends a comment between two events, where the stream has begun and not ended."""


class OpenStreams:
    """The answers of a replica that are under way."""

    def __init__(self) -> None:
        self._open: set[Comment] = set()

    def add(self, comment: Comment) -> None:
        """Note an answer that begins."""
        self._open.add(comment)

    def discard(self, comment: Comment) -> None:
        """Forget an answer that has ended."""
        self._open.discard(comment)

    async def keep_open(self) -> None:
        """Send comments until cancelled."""
        while True:
            await self.tell(WAITING)
            await asyncio.sleep(PERIOD_SECONDS)

    async def tell(self, text: bytes) -> None:
        """Send a comment to all; a client that does not read holds up nobody else."""
        telling = [asyncio.create_task(comment(text)) for comment in self._open]
        if telling:
            await asyncio.wait(telling, timeout=PERIOD_SECONDS)
        for task in telling:
            task.cancel()
