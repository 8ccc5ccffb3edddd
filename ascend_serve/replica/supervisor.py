"""The supervisor of a replica: replaces an engine that died or stalled, while the replica itself stays."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping

from ascend_serve.api.open_streams import REPLACED, OpenStreams
from ascend_serve.api.retry_after import retry_after
from ascend_serve.config.schema import ServingConfig
from ascend_serve.errors import EngineError
from ascend_serve.events import AnyEvent, EngineDied, EngineRestarted, EngineStalled, RestartFailed
from ascend_serve.replica.last_will import LastWill, with_file
from ascend_serve.replica.openai_engine import OpenAIEngine
from ascend_serve.replica.recovery import Recovery
from ascend_serve.replica.vital_signs import Ailment, EngineFailure, VitalSigns
from ascend_serve.telemetry.metrics import ReplicaMetrics
from ascend_serve.telemetry.report import GraphReport

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.1

_SPARES_AFTER_SECONDS = 20.0
"""A service that has just begun needs its cores itself."""

_ATTEMPTS = 3
"""Starts in a row that may fail before the replica gives up, and Serve replaces it."""


class Supervisor:
    """Watches the engine of a replica that serves.

    Args:
        engine: The engine, ready.
        serving: When it is taken for dead, and what becomes of requests under way then.
        metrics: Where restarts are counted.
        will: What it leaves behind when it is lost.

    Attributes:
        streams: Answers under way, which are kept open while the engine is replaced.
    """

    def __init__(self, engine: OpenAIEngine, serving: ServingConfig, metrics: ReplicaMetrics, will: LastWill) -> None:
        self.streams = OpenStreams()
        self._engine = engine
        self._health = serving.health
        self._wants_spares = serving.recovery.spares
        self._recovery = Recovery(engine.run.llm, serving.recovery.requests, metrics)
        self._metrics = metrics
        self._will = will
        self._start_seconds = sum(engine.seconds.get(phase, 0.0) for phase in ("engine", "application", "warm_up"))
        self._seconds_before_start = 0.0
        self._down_since: float | None = None
        self._gave_up: Exception | None = None
        self._recovering_since: float | None = None
        self._keeping_open: asyncio.Task[None] | None = None
        self._keeping_spares: asyncio.Task[None] | None = None
        self._watching = asyncio.create_task(self._watch())

    @property
    def is_serving(self) -> bool:
        """Whether a request can be answered."""
        return self._down_since is None and not self._engine.run.llm.errored

    @property
    def retry_after(self) -> int:
        """Seconds after which a client should ask again, from how long the start took before."""
        passed = 0.0 if self._down_since is None else time.monotonic() - self._down_since
        return retry_after(self._seconds_before_start + self._start_seconds, passed)

    @property
    def recovering_since(self) -> float | None:
        """When the engine was lost that is being replaced, in seconds since the epoch; ``None`` while one answers."""
        return self._recovering_since

    def check_health(self) -> None:
        """Make sure that the replica serves, or is on its way back to.

        Raises:
            EngineError: Its engine cannot be brought back here.
        """
        if self._gave_up is not None or self._watching.done():
            raise EngineError(f"The engine did not come back: {self._gave_up}", "Serve replaces the replica.")

    def stop(self) -> None:
        """Watch no longer."""
        self._watching.cancel()
        self._stop_keeping_spares()
        self._recovery.stop()

    async def _watch(self) -> None:
        while self._gave_up is None:
            if self._wants_spares:
                self._keeping_spares = asyncio.create_task(self._keep_spares())
            failure = await VitalSigns(self._engine.run, self._health, self._metrics).until_failure()
            self._down_since, self._seconds_before_start = time.monotonic(), 0.0
            self._recovering_since = time.time()
            self._stop_keeping_spares()
            await self._recovery.lose()
            if self._keeping_open is None or self._keeping_open.done():
                self._keeping_open = asyncio.create_task(self._keep_streams_open())
            lost, moment = _LOST[failure.ailment], self._recovering_since
            # The driver tells no more when the engine has ended.
            report = await self._engine.report()
            text, _ = await asyncio.gather(self._with_will(failure.reason, report), self._end_engine())
            self._note(lost(time=moment, text=text))
            await self._bring_back(failure, self._down_since)

    async def _keep_spares(self) -> None:
        await asyncio.sleep(_SPARES_AFTER_SECONDS)
        await self._engine.keep_spares()

    def _stop_keeping_spares(self) -> None:
        if self._keeping_spares is not None:
            self._keeping_spares.cancel()

    async def _keep_streams_open(self) -> None:
        """Until all requests have got on that go on."""
        keeping = asyncio.create_task(self.streams.keep_open())
        while self._gave_up is None and (self._down_since is not None or not self._recovery.is_over):
            await asyncio.sleep(_POLL_SECONDS)
        keeping.cancel()
        if self._gave_up is None:
            await self.streams.tell(REPLACED)

    async def _end_engine(self) -> None:
        await self._engine.run.end()
        # What came in meanwhile.
        await self._recovery.lose()

    async def _with_will(self, reason: str, report: GraphReport) -> str:
        return with_file(reason, await asyncio.to_thread(self._will.leave, reason, report))

    async def _bring_back(self, failure: EngineFailure, down_since: float) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            self._seconds_before_start = time.monotonic() - down_since
            try:
                await self._engine.restart()
            except Exception as error:
                text = f"attempt {attempt} of {_ATTEMPTS}: {error}"
                self._note(RestartFailed(time=time.time(), text=text))
                self._gave_up = error if attempt == _ATTEMPTS else None
                await self._end_engine()
            else:
                break
        if self._gave_up is not None:
            self._recovery.fail()
        else:
            seconds = time.monotonic() - down_since
            handed_over = self._recovery.begin_to_hand_over(down_since)
            self._start_seconds, self._down_since = seconds - self._seconds_before_start, None
            self._recovering_since = None
            requests = f"; requests that were under way: {handed_over}" if handed_over else ""
            copied = self._engine.copied_ranks
            weights = f"; weights of {copied} ranks from the memory of their host" if copied else ""
            text = f"serving again after {seconds:.1f} s{weights}{requests}"
            self._note(EngineRestarted(time=time.time(), text=text, seconds=seconds, copied_ranks=copied))
            self._metrics.restarted(failure.ailment, seconds)
            self._metrics.show(await self._engine.report())

    def _note(self, event: AnyEvent) -> None:
        logger.warning("%s: %s", event.kind, event.text)
        self._engine.events.append(event)


_LOST: Mapping[Ailment, type[EngineDied] | type[EngineStalled]] = {
    Ailment.DIED: EngineDied,
    Ailment.STALLED: EngineStalled,
}
"""What is told of an engine that is lost."""
