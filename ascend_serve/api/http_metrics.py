"""vLLM's metrics of HTTP requests, around all that answers one.

vLLM puts the layer that counts into its application, where a request that the guards or the gate refuse never comes,
and where the requests of the warm-up do. Starlette's layers must not be built a second time to change that: the
collectors exist by then, and the second layer counts nothing without a word (prometheus-fastapi-instrumentator 8).
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from prometheus_fastapi_instrumentator.middleware import PrometheusInstrumentatorMiddleware

from ascend_serve.errors import EngineError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send


class HttpMetrics:
    """The layer that counts, taken out of an application.

    Args:
        app: vLLM's application; requests that reach it directly are not counted any more.

    Raises:
        EngineError: It has no such layer.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._counting = _taken_out(app)

    def around(self, answering: ASGIApp) -> ASGIApp:
        """Count what ``answering`` answers, refusals included, by the routes of the application."""
        counting = copy(self._counting)
        counting.app = answering

        # A coroutine function, or uvicorn takes it for an application of ASGI 2.
        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            # The application would say so itself, but further in; the layer asks it for the route.
            scope["app"] = self._app
            await counting(scope, receive, send)

        return counted


def _taken_out(app: FastAPI) -> PrometheusInstrumentatorMiddleware:
    outer: Any = app.middleware_stack
    while layer := getattr(outer, "app", None):
        if isinstance(layer, PrometheusInstrumentatorMiddleware):
            outer.app = layer.app
            return layer
        outer = layer
    raise EngineError("vLLM's application does not count its requests", "Install a vLLM that this version names.")
