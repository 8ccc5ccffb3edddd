"""What stands before vLLM's application: who may ask, and how much may be sent."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.websockets import WebSocketClose

from ascend_serve.api.clients import CLIENT, Clients, Note
from ascend_serve.api.request_body import read_body, replayed
from ascend_serve.api.request_limits import RequestLimits

try:
    from vllm.entrypoints.serve.middleware.authenticate import AuthenticationMiddleware
except ImportError:
    from vllm.entrypoints.serve.utils.server_utils import AuthenticationMiddleware

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_OPEN = "/health"
_TOKENIZERS = frozenset({"/tokenize", "/detokenize"})
_LARGE_BYTES = 2**14
"""Looking at less takes no time to speak of."""
_POLICY_VIOLATION = 1008
_CHALLENGE = {"WWW-Authenticate": "Bearer"}
_BROWSERS_CHALLENGE = {"WWW-Authenticate": 'Basic realm="an API key as the password", charset="UTF-8"'}
_PAGES = frozenset({"/graph", "/graph/stream", "/graph/events"})
"""Paths that people open in a browser; all of them only tell."""


def guarded(app: ASGIApp, keys: Sequence[SecretStr], limits: RequestLimits, note: Note) -> ASGIApp:
    """Put the guards before ``app``.

    Args:
        app: What to guard.
        keys: Keys that clients may use; without one everybody may ask.
        limits: How much one request may ask for.
        note: Is told who asks.
    """
    limited = Clients(BodyGuard(app, limits), note, has_keys=bool(keys))
    return EveryRouteAuthentication(limited, [key.get_secret_value() for key in keys]) if keys else limited


class EveryRouteAuthentication:
    """vLLM's check of API keys, on every route but ``/health``.

    vLLM guards the OpenAI routes alone (0.23.0 and 0.32.0); who may not ask may not tokenize or read metrics either.
    A browser's preflight request has no key by definition, and is answered by vLLM's CORS middleware. Browsers cannot
    send a key of their own accord, but ask for a password: the pages that people look at take a key as such.

    Args:
        app: What to guard.
        keys: Keys that clients may use.
    """

    def __init__(self, app: ASGIApp, keys: list[str]) -> None:
        self._app = app
        self._vllms = AuthenticationMiddleware(app, keys)

    # A coroutine function, or uvicorn takes it for an application of ASGI 2.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or self._may(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose(_POLICY_VIOLATION)(scope, receive, send)
        else:
            challenge = _BROWSERS_CHALLENGE if _path(scope) in _PAGES else _CHALLENGE
            await _error(401, "Unauthorized", "Send a key: Authorization: Bearer <key>", challenge)(
                scope, receive, send
            )

    def _may(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        preflight = scope.get("method") == "OPTIONS" and "Access-Control-Request-Method" in headers
        path = _path(scope)
        if path in _PAGES and scope.get("method") == "GET":
            headers = _with_password_as_key(headers)
        return path == _OPEN or preflight or self._vllms.verify_token(headers)


def _path(scope: Scope) -> str:
    """The path below the application's route prefix."""
    return str(scope["path"].removeprefix(scope.get("root_path", "")))


def _with_password_as_key(headers: Headers) -> Headers:
    """The headers, with a key where a browser sent it as a password (RFC 7617)."""
    scheme, _, word = headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return headers
    try:
        _, _, password = base64.b64decode(word, validate=True).decode().partition(":")
    except ValueError:
        return headers
    return Headers({"Authorization": f"Bearer {password}"})


class BodyGuard:
    """Answers what vLLM would choke on: too large a body by 413, too much work and some wrong types by 400.

    Args:
        app: What to guard.
        limits: How much one request may ask for.
    """

    def __init__(self, app: ASGIApp, limits: RequestLimits) -> None:
        self._app = app
        self._limits = limits
        self._looking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        announced = headers.get("Content-Length", "")
        too_large = announced.isdigit() and int(announced) > self._limits.body_bytes
        body = None if too_large else await read_body(receive, self._limits.body_bytes)
        if body is None:
            problem = f"The body of a request may have {self._limits.body_bytes} bytes (serving.max_body_bytes)."
            await _error(413, "Content Too Large", problem)(scope, receive, send)
        elif refusal := await self._refusal(scope, body) if "json" in headers.get("Content-Type", "") else None:
            await _error(400, "BadRequestError", refusal)(scope, receive, send)
        elif len(body) > _LARGE_BYTES and _path(scope) in _TOKENIZERS:
            async with self._one_of(scope):
                await self._app(scope, replayed(body, receive), send)
        else:
            await self._app(scope, replayed(body, receive), send)

    def _one_of(self, scope: Scope) -> asyncio.Lock:
        """What one request of a client holds at a time."""
        return self._looking.setdefault(scope.get(CLIENT, ""), asyncio.Lock())

    async def _refusal(self, scope: Scope, body: bytes) -> str | None:
        """Look at a large body only when that of the same client before it is done with, and others had their turn."""
        if len(body) <= _LARGE_BYTES:
            return self._limits.refusal(body)
        async with self._one_of(scope):
            await asyncio.sleep(0)
            return self._limits.refusal(body)


def _error(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error in the shape of OpenAI's."""
    body = {"error": {"message": message, "type": kind, "param": None, "code": status}}
    return JSONResponse(body, status_code=status, headers=headers)
