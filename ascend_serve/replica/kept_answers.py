"""Streams that outlive this replica: what it tells beside HAProxy who keeps them, and what it takes from there.

The protocol is `ascend_serve.api.stream_journal`.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from ascend_serve.api.request_body import read_body, replayed
from ascend_serve.api.stream_journal import GIVEN, KEEP, MODEL, NOT_KEPT, Output, split_body
from ascend_serve.engine.stream_outputs import STREAM, StreamOutputs

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_STREAM = "text/event-stream"
_BODY = "http.response.body"


class KeptAnswers:
    """An ASGI application around the replica's, for who knows the secret; everybody else is passed on.

    Args:
        app: The application.
        secret: Of the deployment.
        model: What makes another replica equal to this one; see `model_identity`.
        count: Is told of each stream of another replica that goes on here.
    """

    def __init__(self, app: ASGIApp, secret: str, model: str, count: Callable[[], None]) -> None:
        self._app = app
        self._secret = secret
        self._model = model
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        inner = _without(scope, KEEP, GIVEN, MODEL)
        if not hmac.compare_digest(headers.get(KEEP, "").encode(), self._secret.encode()):
            await self._app(inner, receive, send)
        elif GIVEN not in headers:
            await self._keep(StreamOutputs(), inner, receive, send)
        elif headers.get(MODEL) != self._model:
            await _another_model()(scope, receive, send)
        else:
            body, outputs = split_body(await read_body(receive) or b"", int(headers[GIVEN]))
            MutableHeaders(scope=inner)["Content-Length"] = str(len(body))
            self._count()
            await self._keep(StreamOutputs(outputs), inner, replayed(body, receive), send)

    async def _keep(self, stream: StreamOutputs, scope: Scope, receive: Receive, send: Send) -> None:
        STREAM.set(stream)
        await self._app(scope, receive, _Telling(stream, self._model, send).send)


class _Telling:
    """Sends an answer with what the engine gave out between its events."""

    def __init__(self, stream: StreamOutputs, model: str, send: Send) -> None:
        self._stream = stream
        self._model = model
        self._send = send
        self._is_told = False

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on."""
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", ())))
            self._is_told = self._stream.is_kept and headers.get("Content-Type", "").startswith(_STREAM)
            if self._is_told:
                headers[MODEL] = self._model
                message = {**message, "headers": headers.raw}
        elif self._is_told and message["type"] == _BODY:
            message = {**message, "body": self._comments() + message.get("body", b"")}
        await self._send(message)

    def _comments(self) -> bytes:
        told = self._stream.take()
        if self._stream.is_kept:
            return b"".join(Output(*output).comment() for output in told)
        self._is_told = False
        return NOT_KEPT


def _without(scope: Scope, *names: str) -> Scope:
    """A copy without headers that are no business of the application."""
    unwanted = {name.encode() for name in names}
    return {**scope, "headers": [(name, value) for name, value in scope["headers"] if name not in unwanted]}


def _another_model() -> JSONResponse:
    error = {"message": "This replica serves another model.", "type": "Conflict", "param": None, "code": 409}
    return JSONResponse({"error": error}, 409)
