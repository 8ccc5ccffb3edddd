"""The gate in front of the application: tells clients the truth while the engine is away."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ascend_serve.api import lost_engine
from ascend_serve.replica.supervisor import Supervisor
from ascend_serve.telemetry.metrics import Passage

_ALWAYS_OPEN = frozenset({"/metrics", "/version", "/graph", "/graph/stream", "/graph/report", "/graph/events"})
"""Paths that are answered without an engine."""

_HEALTH = "/health"

_ERROR_EVENT = b'data: {"error"'
_DONE_EVENT = b"data: [DONE]\n\n"
_NAMED_ERROR_EVENT = b"event: error\n"
_STREAM = b"text/event-stream"


def _ignore(passage: Passage) -> None:
    """Count nothing."""


class Gate:
    """An ASGI application around the replica's.

    While the engine is away every new request is answered at once with 503 and ``Retry-After``. Requests that were
    under way wait, or end with the same, or with an error event where a stream had begun.

    Args:
        app: The application.
        supervisor: Knows whether the engine is there.
        count: Is told of each request what became of it.
    """

    def __init__(self, app: ASGIApp, supervisor: Supervisor, count: Callable[[Passage], None] = _ignore) -> None:
        self._app = app
        self._supervisor = supervisor
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http" or _path(scope) in _ALWAYS_OPEN:
            await self._app(scope, receive, send)
        elif self._supervisor.is_serving:
            await self._pass_on(scope, receive, send)
        else:
            self._count(Passage.REFUSED)
            await self._refuse(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send, self._supervisor, _path(scope))
        self._supervisor.streams.add(answer.comment)
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            if self._supervisor.is_serving or (answer.began and not answer.is_stream):
                raise
            await answer.lose()
        finally:
            self._supervisor.streams.discard(answer.comment)
        self._count(Passage.LOST if answer.is_lost else Passage.PASSED)
        if answer.is_withheld:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"Retry-After": str(self._supervisor.retry_after)}
        body = lost_engine.refusal(_path(scope))
        if _path(scope) == _HEALTH:
            body["recovering_since"] = self._supervisor.recovering_since
        await JSONResponse(body, 503, headers)(scope, receive, send)


class _Answer:
    """One answer on its way to the client.

    Attributes:
        began: Whether the client has got a part of it.
        is_stream: Whether it is one of events.
        is_withheld: Whether it is kept back: the answer of an application that lost its engine.
    """

    def __init__(self, send: Send, supervisor: Supervisor, path: str) -> None:
        self._send = send
        self._supervisor = supervisor
        self._path = path
        self._events = 0
        self._has_error = False
        self._has_ended = False
        self.began = False
        self.is_stream = False
        self.is_withheld = False

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on."""
        if message["type"] == "http.response.start":
            self.is_withheld = message["status"] >= 500 and not self._supervisor.is_serving
            self.is_stream = any(value.startswith(_STREAM) for _, value in message.get("headers", ()))
        if self.is_withheld:
            return
        self.began = True
        self._has_ended |= message["type"] == "http.response.body" and not message.get("more_body")
        await self._send({**message, "body": self._told(message["body"])} if message.get("body") else message)

    async def comment(self, text: bytes) -> None:
        """Send a comment between two events: vLLM sends whole ones."""
        if self.began and self.is_stream and not self._has_ended:
            await self._send({"type": "http.response.body", "body": text, "more_body": True})

    @property
    def is_lost(self) -> bool:
        """Whether the client was told that the engine is gone, instead of the rest of the answer."""
        return self.is_withheld or (self._has_error and not self._supervisor.is_serving)

    async def lose(self) -> None:
        """End it: the application has ended without a word when it lost its engine."""
        if not self.began:
            self.is_withheld = True
            return
        last = b"" if self._has_error else lost_engine.event(self._path, self._events)
        self._has_error = True
        await self._send({"type": "http.response.body", "body": last, "more_body": False})

    def _told(self, body: bytes) -> bytes:
        """What the client is told instead of ``body``, where vLLM (0.32.0) tells of a lost engine in its own way.

        It ends a stream with ``[DONE]`` after an error too, which some clients take for a complete answer. A stream of
        Anthropic's API ends with the message of an error that came of the first one.
        """
        is_named = body.startswith(_NAMED_ERROR_EVENT) and not self._supervisor.is_serving
        if is_named:
            body = lost_engine.event(self._path, self._events)
        self._has_error |= is_named or body.startswith(_ERROR_EVENT)
        self._events += 1
        return b"" if self._has_error and body == _DONE_EVENT else body


def _path(scope: Scope) -> str:
    """The path below the application's route prefix."""
    return str(scope["path"].removeprefix(scope.get("root_path", "")))
