"""What people and machines see of a replica while it runs: the page at ``/graph``, and metrics that are up to date."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, CollectorRegistry
from starlette.responses import HTMLResponse, StreamingResponse

from ascend_serve.graph.replan import better_sizes
from ascend_serve.telemetry.metrics import ReplicaMetrics, StoryCollector
from ascend_serve.telemetry.page import GraphPage
from ascend_serve.telemetry.page_view import LiveNumbers, NamedText, PageView, page_view
from ascend_serve.telemetry.replica_status import ReplicaLoad, read_load
from ascend_serve.telemetry.step_meter import Replay

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ascend_serve.replica.openai_engine import OpenAIEngine

logger = logging.getLogger(__name__)

_COUNT_SECONDS = 1.0
"""How long the engine core may take to tell its counts: it answers between two steps."""
_STREAM_SECONDS = 5.0
"""How long one answer of the stream lasts: a replica that shall end waits for answers under way. Browsers ask again."""
_LOOK_SECONDS = 1.0
_BETWEEN_SECONDS = 0.2
_WINDOW_SECONDS = 10.0
_BETTER_SECONDS = 30.0
_RETRY_MILLISECONDS = 300
_METRICS = "/metrics"
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


@dataclass(frozen=True, slots=True)
class _Sample:
    """What was counted at one moment."""

    time: float
    generated: int
    tokens: int
    padding: int
    steps: int
    eager: int


class Observer:
    """Serves the page, and has metrics know what was counted when they are asked for.

    Args:
        engine: The engine; its application gets ``GET /graph`` and ``GET /graph/stream``.
        metrics: Gauges that follow the report.
        registry: Where metrics are collected.
    """

    def __init__(self, engine: OpenAIEngine, metrics: ReplicaMetrics, registry: CollectorRegistry = REGISTRY) -> None:
        self._engine = engine
        self._metrics = metrics
        self._page = GraphPage()
        self._samples: deque[_Sample] = deque(maxlen=64)
        self._better: tuple[int, ...] | None = None
        self._compared = float("-inf")
        registry.register(StoryCollector(engine.events.story, engine.meter))
        engine.app.add_api_route("/graph", self.page, response_class=HTMLResponse)
        engine.app.add_api_route("/graph/stream", self.stream, response_class=StreamingResponse)

    def around(self, app: ASGIApp) -> ASGIApp:
        """``app``, whose metrics are brought up to date when they are asked for."""

        # A coroutine function, or uvicorn takes it for an application of ASGI 2.
        async def fresh(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"].removeprefix(scope.get("root_path", "")) == _METRICS:
                await self.refresh()
            await app(scope, receive, send)

        return fresh

    async def refresh(self) -> None:
        """Bring the metrics up to date."""
        await self._count()
        self._metrics.show(self._engine.events.story.report())
        self._metrics.spares(self._engine.spares, self._engine.held_bytes)

    async def page(self) -> HTMLResponse:
        """What ``GET /graph`` answers."""
        html = self._page.whole(await self._view(live=True))
        return HTMLResponse(html, headers={**_HEADERS, "Content-Security-Policy": self._page.policy})

    async def stored_page(self) -> str:
        """The page as a file, which follows nothing."""
        return self._page.whole(await self._view(live=False))

    async def stream(self) -> StreamingResponse:
        """What ``GET /graph/stream`` answers: the parts of the page that change, as server-sent events."""
        return StreamingResponse(self._changes(), media_type="text/event-stream", headers=_HEADERS)

    async def _changes(self) -> AsyncIterator[str]:
        """Each part that is not as it was, as one object of JSON with the HTML of each."""
        yield f"retry: {_RETRY_MILLISECONDS}\n\n"
        ends = time.monotonic() + _STREAM_SECONDS
        shown: dict[str, str] = {}
        while time.monotonic() < ends:
            known = self._engine.events.count
            parts = self._page.parts(await self._view(live=True))
            changed = {part: html for part, html in parts.items() if shown.get(part) != html}
            if changed:
                yield f"data: {json.dumps(changed)}\n\n"
            shown = parts
            await asyncio.sleep(_BETWEEN_SECONDS)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._engine.events.more(known), _LOOK_SECONDS)

    async def _view(self, *, live: bool) -> PageView:
        await self._count()
        self._sample(read_load())
        await self._compare()
        story, meter = self._engine.events.story, self._engine.meter
        numbers = LiveNumbers(self._tiles(), dict(meter.decode), self._better)
        return page_view(story, numbers, live=live, now=time.time())

    async def _count(self) -> None:
        """Have the meter know all steps by now, as far as the engine tells."""
        if self._engine.events.story.is_away or self._engine.run.is_occupied:
            return
        try:
            await asyncio.wait_for(self._engine.count_steps(), _COUNT_SECONDS)
        except Exception as error:
            # An engine that is dead or stalls tells nothing; whoever looks shall see what is known.
            logger.debug("Steps are not counted: %s", error)

    def _sample(self, load: ReplicaLoad) -> None:
        totals = self._engine.meter.totals
        eager = sum(total.steps for (_, replay, _, _), total in totals.items() if replay is Replay.EAGER)
        now = time.monotonic()
        if self._samples and now - self._samples[-1].time < _BETWEEN_SECONDS:
            return
        self._samples.append(
            _Sample(
                now,
                load.generated_tokens or 0,
                sum(total.tokens for total in totals.values()),
                sum(total.padding for total in totals.values()),
                sum(total.steps for total in totals.values()),
                eager,
            )
        )
        while self._samples[-1].time - self._samples[0].time > _WINDOW_SECONDS:
            self._samples.popleft()

    def _tiles(self) -> tuple[NamedText, ...]:
        load, first, last = read_load(), self._samples[0], self._samples[-1]
        seconds, steps = last.time - first.time, last.steps - first.steps
        tokens, padding = last.tokens - first.tokens, last.padding - first.padding
        numbers = {
            "requests in the batch": "" if load.running is None else str(load.running),
            "requests waiting": "" if load.waiting is None else str(load.waiting),
            "tokens per second": f"{(last.generated - first.generated) / seconds:.0f}" if seconds else "0",
            "padding, of all tokens": f"{padding / (tokens + padding):.1%}" if tokens else "no step",
            "eager, of all steps": f"{(last.eager - first.eager) / steps:.1%}" if steps else "no step",
        }
        return tuple(NamedText(name, value) for name, value in numbers.items() if value)

    async def _compare(self) -> None:
        """Look for better sizes now and then: for many sizes it takes part of a second, in a thread of its own."""
        story, meter = self._engine.events.story, self._engine.meter
        now = time.monotonic()
        if story.started is None or story.group.plan is None or now - self._compared < _BETTER_SECONDS:
            return
        if not meter.decode:
            return
        self._compared = now
        unit, sizes = story.started.multiple_of, story.group.plan.capture_sizes
        candidates = range(unit, story.started.largest_batch + 1, unit)
        self._better = await asyncio.to_thread(better_sizes, sizes, candidates, dict(meter.decode), 0.0)
