"""A replica that answers without a model: a fixed stream of tokens, one for each request at every step of a clock.

What stands before the application of a real replica stands before this one: the layer that counts requests, and all
that `protected` puts there. A chunk is as long as vLLM's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator
from ray import serve
from starlette.types import ASGIApp

from ascend_serve.api.request_limits import RequestLimits
from ascend_serve.config.schema import LimitsConfig
from ascend_serve.engine.arrivals import Arrivals
from ascend_serve.replica.application import protected
from ascend_serve.telemetry.metrics import ReplicaMetrics

MAX_BODY_BYTES = 2**20
MODEL_TOKENS = 4096

_CHUNK = {
    "id": "cmpl-0123456789abcdef0123456789abcdef",
    "object": "text_completion",
    "created": 1700000000,
    "model": "demo",
    "choices": [
        {"index": 0, "text": " token", "logprobs": None, "finish_reason": None, "stop_reason": None, "token_ids": None}
    ],
    "usage": None,
}


class Clock:
    """Lets all that wait go on at each step, as a batch of an engine does.

    Args:
        seconds: Between two steps.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._step: asyncio.Future[None] | None = None
        self._ticking: asyncio.Task[None] | None = None

    async def step(self) -> None:
        """Wait for the next step."""
        if self._ticking is None:
            self._ticking = asyncio.create_task(self._tick())
        if self._step is None:
            self._step = asyncio.get_running_loop().create_future()
        # A client that goes cancels its own waiting alone.
        await asyncio.shield(self._step)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += self._seconds
            await asyncio.sleep(due - loop.time())
            step, self._step = self._step, None
            if step is not None:
                step.set_result(None)


class NeverAway:
    """What the gate asks for the state of the engine."""

    is_serving = True
    retry_after = 0


def fixed_application(step_seconds: float) -> ASGIApp:
    """The application with what stands before it."""
    app = FastAPI()
    clock = Clock(step_seconds)

    @app.get("/health")
    async def health() -> None:
        return None

    @app.post("/v1/completions")
    async def completions(request: Request) -> StreamingResponse:
        body = await request.json()
        return StreamingResponse(_stream(clock, int(body["max_tokens"])), media_type="text/event-stream")

    Instrumentator().instrument(app)
    never_away: Any = NeverAway()
    limits = RequestLimits(MAX_BODY_BYTES, LimitsConfig(), MODEL_TOKENS)
    return protected(app, never_away, ReplicaMetrics(CollectorRegistry()), limits, Arrivals().coming)


async def _stream(clock: Clock, tokens: int) -> AsyncIterator[str]:
    """The first token at once, each further one with a step."""
    for number in range(tokens):
        if number:
            await clock.step()
        yield f"data: {json.dumps(_CHUNK)}\n\n"
    yield "data: [DONE]\n\n"


@serve.ingress()
class FixedReplica:
    """The application as a replica of Ray Serve.

    Args:
        step_seconds: Between two tokens of a request.
    """

    def __init__(self, step_seconds: float) -> None:
        self._step_seconds = step_seconds

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        return fixed_application(self._step_seconds)
