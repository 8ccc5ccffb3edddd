"""An httpx transport to an ASGI application in this process, whose answers come as they are made.

``httpx.ASGITransport`` (0.28) runs the application to its end before it answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx
from starlette.types import ASGIApp, Message, Scope


class StreamingTransport(httpx.AsyncBaseTransport):
    """Hands requests to ``app``; an answer that nobody reads on is cancelled, as when a client goes.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as soon as the application has sent its status and headers."""
        messages = _messages(self._app, _scope(request), await request.aread())
        start = await anext(messages)
        return httpx.Response(start["status"], headers=start.get("headers", []), stream=_Body(messages))


class _Body(httpx.AsyncByteStream):
    def __init__(self, messages: AsyncGenerator[Message, None]) -> None:
        self._messages = messages

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for message in self._messages:
            yield message.get("body", b"")

    async def aclose(self) -> None:
        await self._messages.aclose()


async def _messages(app: ASGIApp, scope: Scope, body: bytes) -> AsyncGenerator[Message, None]:
    """What ``app`` sends, and what it raises."""
    sent: asyncio.Queue[Message | None] = asyncio.Queue()
    request: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if request:
            return request.pop()
        # The client is there until the call is cancelled.
        return await asyncio.get_running_loop().create_future()

    async def call() -> None:
        try:
            await app(scope, receive, sent.put)
        finally:
            sent.put_nowait(None)

    task = asyncio.create_task(call())
    try:
        while (message := await sent.get()) is not None:
            yield message
        await task
    finally:
        task.cancel()
        await asyncio.wait((task,))


def _scope(request: httpx.Request) -> dict[str, Any]:
    """The request as ASGI 3.0 has it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path,
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": (request.url.host, request.url.port),
        "client": ("127.0.0.1", 0),
    }
