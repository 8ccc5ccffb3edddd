"""What tells that an engine is dead or stalled."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ascend_serve.config.schema import HealthConfig
from ascend_serve.replica.engine_run import EngineRun
from ascend_serve.telemetry.metrics import ReplicaMetrics

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_MOST_SECONDS_BETWEEN_BEATS = 5.0
_REASON_SECONDS = 1.0
"""How long a dead engine's reason is waited for: what tells it comes another way."""


class Ailment(StrEnum):
    """Why an engine has to be replaced."""

    DIED = "died"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class EngineFailure:
    """An engine that has to be replaced.

    Attributes:
        ailment: Why.
        reason: For a person: which rank, on which node, and what it was, as far as that is known.
    """

    ailment: Ailment
    reason: str


class VitalSigns:
    """Watches one engine from its start to its end.

    Three signs are watched at once: the capture driver tells of a lost worker process, vLLM of a dead engine core, and
    a heartbeat goes through the engine core to the main loop of every rank. A heartbeat that is not answered in time is
    a stall, whoever is the cause. When nobody has asked for anything for long, one token is decoded too.

    Args:
        run: The engine.
        health: The deadlines.
        metrics: Where its own decodes are counted.
    """

    def __init__(self, run: EngineRun, health: HealthConfig, metrics: ReplicaMetrics) -> None:
        self._run = run
        self._health = health
        self._metrics = metrics
        self._period = min(_MOST_SECONDS_BETWEEN_BEATS, health.stall_seconds / 4)
        self._busy = time.monotonic()

    async def until_failure(self) -> EngineFailure:
        """Wait until the engine has to be replaced."""
        loss, death, stall = (asyncio.create_task(sign) for sign in self._signs())
        try:
            await asyncio.wait((loss, death, stall), return_when=asyncio.FIRST_COMPLETED)
            if death.done():
                await asyncio.wait((loss,), timeout=_REASON_SECONDS)
            return next(sign for sign in (loss, death, stall) if sign.done()).result()
        finally:
            for sign in (loss, death, stall):
                sign.cancel()

    def _signs(self) -> tuple[Coroutine[Any, Any, EngineFailure], ...]:
        return self._until_loss(), self._until_death(), self._until_stall()

    async def _until_loss(self) -> EngineFailure:
        reason = await self._run.loss()
        if not reason:
            # Nobody can tell of a loss; the other signs remain.
            await asyncio.Event().wait()
        return EngineFailure(Ailment.DIED, reason)

    async def _until_death(self) -> EngineFailure:
        while not self._run.llm.errored:
            await asyncio.sleep(_POLL_SECONDS)
        return EngineFailure(Ailment.DIED, "the engine core ended")

    async def _until_stall(self) -> EngineFailure:
        patience = self._health.stall_seconds - self._period
        while True:
            # The first at once: a rank can only tell where it stalls after a heartbeat.
            try:
                # Python 3.11's wait_for does not end when it is cancelled in the moment of the answer.
                async with asyncio.timeout(patience):
                    await self._sign_of_life()
            except TimeoutError:
                if not self._run.is_occupied:
                    return await self._stalled()
            except Exception as error:
                # Of a dead engine the other signs tell.
                logger.warning("No heartbeat: %s", error)
            await asyncio.sleep(self._period)

    async def _stalled(self) -> EngineFailure:
        where = await self._run.standstill()
        reason = f"the ranks did not answer within {self._health.stall_seconds:g} s"
        return EngineFailure(Ailment.STALLED, f"{reason}: {where}" if where else reason)

    async def _sign_of_life(self) -> None:
        if self._run.is_occupied:
            return
        await self._run.llm.beat(self._health.stall_seconds / 2)
        self._metrics.beat()
        now = time.monotonic()
        if self._run.llm.is_busy:
            self._busy = now
        elif now - self._busy >= self._health.idle_decode_seconds:
            await self._run.llm.decode()
            self._metrics.decoded()
            self._busy = now
