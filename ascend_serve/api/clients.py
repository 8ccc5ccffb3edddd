"""Who asks, so that clients share the engine: by API key, or by address where there are no keys."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


CLIENT = "ascend_serve.client"
"""Of a scope: who asks."""


Note = Callable[[str], AbstractContextManager[object]]
"""Is told who asks, in the context of what answers; what it returns lasts until there is an answer."""


class Clients:
    """Notes who asks, in the scope and in the context of what answers.

    The address is the one that uvicorn knows: it believes a proxy on its own machine, as HAProxy is one, what that says
    of whom it asks for, and nobody else unless ``FORWARDED_ALLOW_IPS`` names them.

    Args:
        app: What answers.
        note: Is told who asks.
        has_keys: Whether clients have keys, which were checked before.
    """

    def __init__(self, app: ASGIApp, note: Note, *, has_keys: bool) -> None:
        self._app = app
        self._note = note
        self._has_keys = has_keys

    # A coroutine function, or uvicorn takes it for an application of ASGI 2.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[CLIENT] = _key(scope) if self._has_keys else _address(scope)
            with self._note(scope[CLIENT]):
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _key(scope: Scope) -> str:
    return Headers(scope=scope).get("Authorization", "").partition(" ")[2]


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""
