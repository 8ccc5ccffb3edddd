"""What is found on an engine that dies, stalls, or is only busy; a simulated engine, real time in small portions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ascend_serve.config.schema import HealthConfig
from ascend_serve.replica.vital_signs import Ailment, EngineFailure, VitalSigns
from ascend_serve.telemetry.metrics import ReplicaMetrics


@dataclass
class SimulatedRun:
    """An engine in one condition.

    Attributes:
        errored: Whether vLLM has found it dead.
        lost: What the driver tells of a lost rank.
        answers: Whether the ranks answer heartbeats.
        decodes: Whether they decode.
        is_busy: Whether there are requests.
        is_occupied: Whether the ranks capture or write traces.
    """

    errored: bool = False
    lost: str = ""
    answers: bool = True
    decodes: bool = True
    is_busy: bool = False
    is_occupied: bool = False
    llm: Any = field(init=False)

    def __post_init__(self) -> None:
        self.llm = SimpleNamespace(errored=self.errored, is_busy=self.is_busy, beat=self.beat, decode=self.decode)

    async def loss(self) -> str:
        if not self.lost:
            await asyncio.Event().wait()
        return self.lost

    async def beat(self, patience: float) -> None:
        await _if(self.answers)

    async def standstill(self) -> str:
        return "" if self.is_busy else "rank 1 stands in sleep"

    async def decode(self) -> None:
        await _if(self.decodes)


async def _if(works: bool) -> None:
    if not works:
        await asyncio.Event().wait()


def failure(run: SimulatedRun, *, idle_decode_seconds: float = 0.1, patience: float = 30.0) -> EngineFailure | None:
    """What is found, or ``None`` when that is nothing."""
    health = HealthConfig(stall_seconds=1.0, idle_decode_seconds=idle_decode_seconds)
    metrics = ReplicaMetrics(CollectorRegistry())

    async def watch() -> EngineFailure | None:
        signs = VitalSigns(run, health, metrics)  # type: ignore[arg-type]
        try:
            return await asyncio.wait_for(signs.until_failure(), patience)
        except TimeoutError:
            return None

    return asyncio.run(watch())


STALLED = EngineFailure(Ailment.STALLED, "the ranks did not answer within 1 s: rank 1 stands in sleep")
UNKNOWN = EngineFailure(Ailment.STALLED, "the ranks did not answer within 1 s")


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (SimulatedRun(lost="rank 1 is lost"), EngineFailure(Ailment.DIED, "rank 1 is lost")),
        (SimulatedRun(errored=True, lost="rank 1 is lost"), EngineFailure(Ailment.DIED, "rank 1 is lost")),
        (SimulatedRun(errored=True), EngineFailure(Ailment.DIED, "the engine core ended")),
        (SimulatedRun(answers=False), STALLED),
        (SimulatedRun(answers=False, is_busy=True), UNKNOWN),
        (SimulatedRun(decodes=False), STALLED),
    ],
    ids=["lost rank", "lost rank, dead core", "dead core", "stalled, idle", "stalled, busy", "stalls when it decodes"],
)
def test_what_is_wrong_is_found(run: SimulatedRun, expected: EngineFailure) -> None:
    assert failure(run) == expected


@pytest.mark.parametrize(
    ("run", "idle_decode_seconds"),
    [
        (SimulatedRun(), 0.1),
        (SimulatedRun(decodes=False, is_busy=True), 0.1),
        (SimulatedRun(decodes=False), 60.0),
        (SimulatedRun(answers=False, is_occupied=True), 0.1),
    ],
    ids=["well", "busy, so nothing more is asked of it", "idle, but not for long", "capturing"],
)
def test_nothing_is_found_on_an_engine_that_does_what_it_should(run: SimulatedRun, idle_decode_seconds: float) -> None:
    assert failure(run, idle_decode_seconds=idle_decode_seconds, patience=1.5) is None


@pytest.mark.parametrize("steps", range(12))
def test_nobody_watches_on_after_the_end(steps: int) -> None:
    async def leave_after_some_steps() -> set[asyncio.Task[Any]]:
        signs = VitalSigns(SimulatedRun(), HealthConfig(), ReplicaMetrics(CollectorRegistry()))  # type: ignore[arg-type]
        watching = asyncio.create_task(signs.until_failure())
        for _ in range(steps):
            await asyncio.sleep(0)
        watching.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(leave_after_some_steps()) == set()
