"""The gate in front of the application: tells clients the truth while the engine is away."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ascend_serve.replica.supervisor import Supervisor

_ALWAYS_OPEN = frozenset({"/metrics", "/version", "/graph/report"})
"""Paths that are answered without an engine."""

_ERROR_EVENT = b'data: {"error"'
_DONE_EVENT = b"data: [DONE]\n\n"


class Gate:
    """An ASGI application around the replica's.

    While the engine is away every request is answered at once with 503 and ``Retry-After``. Requests that were under
    way end with the same, or with an error event where a stream had begun.

    Args:
        app: The application.
        supervisor: Knows whether the engine is there.
    """

    def __init__(self, app: ASGIApp, supervisor: Supervisor) -> None:
        self._app = app
        self._supervisor = supervisor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http" or _path(scope) in _ALWAYS_OPEN:
            await self._app(scope, receive, send)
        elif self._supervisor.is_serving:
            await self._pass_on(scope, receive, send)
        else:
            await self._refuse(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send, self._supervisor)
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            if answer.began or self._supervisor.is_serving:
                raise
            answer.is_withheld = True
        if answer.is_withheld:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = {
            "message": "The engine is being replaced; try again.",
            "type": "ServiceUnavailableError",
            "param": None,
            "code": 503,
        }
        headers = {"Retry-After": str(self._supervisor.retry_after)}
        await JSONResponse({"error": error}, 503, headers)(scope, receive, send)


class _Answer:
    """One answer on its way to the client.

    Attributes:
        began: Whether the client has got a part of it.
        is_withheld: Whether it is kept back: the answer of an application that lost its engine.
    """

    def __init__(self, send: Send, supervisor: Supervisor) -> None:
        self._send = send
        self._supervisor = supervisor
        self._has_error = False
        self.began = False
        self.is_withheld = False

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on."""
        if message["type"] == "http.response.start":
            self.is_withheld = message["status"] >= 500 and not self._supervisor.is_serving
        if self.is_withheld:
            return
        self.began = True
        await self._send(self._without_false_end(message))

    def _without_false_end(self, message: Message) -> Message:
        """vLLM ends a stream with ``[DONE]`` after an error too, which some clients take for a complete answer."""
        body = message.get("body", b"")
        self._has_error |= body.startswith(_ERROR_EVENT)
        return {**message, "body": b""} if self._has_error and body == _DONE_EVENT else message


def _path(scope: Scope) -> Any:
    """The path below the application's route prefix."""
    return scope["path"].removeprefix(scope.get("root_path", ""))
