"""Clients that go before they have their answer: whoever cancels a request ends it on the engine too."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_END_SECONDS = 2.0
"""How long an application may take to notice that its client has gone; then it is cancelled."""


class Departure:
    """An ASGI application that tells the one inside of a departed client when the request is cancelled.

    vLLM answers a request that is no stream in a task of its own, which it ends when it is told that the client has
    gone, and leaves running when it is cancelled (``with_cancellation``, 0.23.0 and 0.32.0). Ray Serve (2.60.0) cancels
    a request whose client goes or whose time is up, and so does who gives up a call over a handle.

    Args:
        app: vLLM's application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on where it is none."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        gone = asyncio.Event()
        answering = asyncio.ensure_future(self._app(scope, _until(gone, receive), send))
        try:
            await asyncio.shield(answering)
        except asyncio.CancelledError:
            gone.set()
            await asyncio.wait((answering,), timeout=_END_SECONDS)
            raise
        finally:
            answering.cancel()


def _until(gone: asyncio.Event, receive: Receive) -> Receive:
    """``receive`` that says that the client has gone as soon as that is known.

    Its first message is the request, which is there already: the guard before this has read it.
    """
    is_first = True

    async def received() -> Message:
        nonlocal is_first
        if is_first:
            is_first = False
            return await receive()
        receiving = asyncio.ensure_future(receive())
        waiting = asyncio.ensure_future(gone.wait())
        try:
            await asyncio.wait((receiving, waiting), return_when=asyncio.FIRST_COMPLETED)
            return {"type": "http.disconnect"} if gone.is_set() else receiving.result()
        finally:
            receiving.cancel()
            waiting.cancel()

    return received
