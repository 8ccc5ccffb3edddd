"""How an engine is replaced, on a simulated engine whose starts fail as scripted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ascend_serve.api.retry_after import retry_after
from ascend_serve.config.schema import ServingConfig
from ascend_serve.errors import EngineError
from ascend_serve.events import Event
from ascend_serve.replica import supervisor as supervisor_module
from ascend_serve.replica.supervisor import Supervisor
from ascend_serve.telemetry.metrics import ReplicaMetrics
from ascend_serve.telemetry.report import GraphReport
from tests.no_requests import NoRequests, NoTurns, stop_reading
from tests.patience import PATIENCE_SECONDS
from tests.reports import REPORT

FILE = Path("/failures/1.txt")
EXPECTED_SECONDS = 22.0
"""What the first start took, without what a restart does not repeat."""


class SimulatedEngine:
    """An engine that is lost once, and then started again.

    Args:
        failures: Starts that fail.
        stays_away: Whether the next one does not end.
    """

    is_occupied = False

    def __init__(self, failures: int, *, stays_away: bool = False) -> None:
        # What answers now and what starts it anew are one here.
        self.run = self
        self.llm = SimpleNamespace(
            errored=False,
            is_busy=False,
            beat=self.beat,
            decode=self.decode,
            stop_reading=stop_reading,
            open_requests=NoRequests(),
            turns=NoTurns(),
        )
        self.seconds = {"imports": 9.0, "engine": EXPECTED_SECONDS - 2.0, "warm_up": 2.0}
        self.events: list[Event] = []
        self.lost = asyncio.Event()
        self.started = asyncio.Event()
        self.keeps_spares = False
        self.copied_ranks = 0
        self._failures = failures
        self._stays_away = stays_away

    async def loss(self) -> str:
        await self.lost.wait()
        return "rank 1 is lost"

    async def beat(self, patience: float) -> None:
        return

    async def decode(self) -> None:
        return

    async def end(self) -> None:
        self.llm.errored = True

    async def restart(self) -> None:
        await self.started.wait()
        if self._failures:
            self._failures -= 1
            raise EngineError("no luck")
        if self._stays_away:
            await asyncio.Event().wait()
        self.lost.clear()
        self.llm.errored = False
        self.copied_ranks = 2

    async def keep_spares(self) -> None:
        self.keeps_spares = True
        try:
            await asyncio.Event().wait()
        finally:
            self.keeps_spares = False

    async def report(self) -> GraphReport:
        return REPORT


def run(
    failures: int,
    check: Callable[[SimulatedEngine, Supervisor, CollectorRegistry], Awaitable[None]],
    *,
    stays_away: bool = False,
    serving: ServingConfig | None = None,
    before: Callable[[SimulatedEngine], bool] = lambda engine: True,
) -> None:
    async def scenario() -> None:
        will = SimpleNamespace(leave=lambda reason, report: FILE)
        engine, registry = SimulatedEngine(failures, stays_away=stays_away), CollectorRegistry()
        config = serving or ServingConfig()
        supervisor = Supervisor(engine, config, ReplicaMetrics(registry), will)  # type: ignore[arg-type]
        assert supervisor.is_serving
        await _until(lambda: before(engine))
        engine.lost.set()
        await _until(lambda: not supervisor.is_serving)
        await check(engine, supervisor, registry)
        supervisor.stop()

    asyncio.run(scenario())


def kinds(engine: SimulatedEngine) -> list[str]:
    return [event.kind for event in engine.events]


async def _until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def test_spares_are_kept_while_an_engine_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "_SPARES_AFTER_SECONDS", 0.0)

    async def check(engine: SimulatedEngine, supervisor: Supervisor, registry: CollectorRegistry) -> None:
        await _until(lambda: not engine.keeps_spares)
        engine.started.set()
        await _until(lambda: engine.keeps_spares)

    run(0, check, before=lambda engine: engine.keeps_spares)


def test_spares_can_be_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "_SPARES_AFTER_SECONDS", 0.0)

    async def check(engine: SimulatedEngine, supervisor: Supervisor, registry: CollectorRegistry) -> None:
        engine.started.set()
        await _until(lambda: supervisor.is_serving)
        assert not engine.keeps_spares

    run(0, check, serving=ServingConfig.model_validate({"recovery": {"spares": False}}))


def test_while_the_engine_is_away_the_replica_is_healthy_and_names_a_time() -> None:
    async def check(engine: SimulatedEngine, supervisor: Supervisor, registry: CollectorRegistry) -> None:
        supervisor.check_health()
        assert supervisor.recovering_since is not None
        assert supervisor.recovering_since == pytest.approx(time.time(), abs=PATIENCE_SECONDS)
        assert 0 < supervisor.retry_after <= retry_after(EXPECTED_SECONDS, 0)

    run(0, check)


def test_after_a_start_that_failed_the_next_one_may_take_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    clock = SimpleNamespace(monotonic=lambda: now, time=time.time)
    monkeypatch.setattr(supervisor_module, "time", clock)

    async def check(engine: SimulatedEngine, supervisor: Supervisor, registry: CollectorRegistry) -> None:
        nonlocal now
        assert supervisor.retry_after == retry_after(EXPECTED_SECONDS, 0)
        now += 12
        engine.started.set()
        await _until(lambda: "restart_failed" in kinds(engine))
        assert supervisor.retry_after == retry_after(12 + EXPECTED_SECONDS, 12)

    run(1, check, stays_away=True)


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_the_engine_comes_back_though_some_starts_fail(failures: int) -> None:
    async def check(engine: SimulatedEngine, supervisor: Supervisor, registry: CollectorRegistry) -> None:
        engine.started.set()
        await _until(lambda: supervisor.is_serving)
        supervisor.check_health()
        assert supervisor.recovering_since is None
        assert kinds(engine) == ["engine_died", *["restart_failed"] * failures, "engine_restarted"]
        assert engine.events[0].text == f"rank 1 is lost\nWhat was known of it is in {FILE}"
        assert registry.get_sample_value("ascend_serve_engine_restarts_total", {"reason": "died"}) == 1

    run(failures, check)


def test_a_replica_that_cannot_bring_its_engine_back_is_unhealthy() -> None:
    async def check(engine: SimulatedEngine, supervisor: Supervisor, registry: CollectorRegistry) -> None:
        engine.started.set()
        await _until(lambda: kinds(engine).count("restart_failed") == 3)
        with pytest.raises(EngineError, match="no luck"):
            supervisor.check_health()
        assert not supervisor.is_serving
        assert registry.get_sample_value("ascend_serve_engine_restarts_total", {"reason": "died"}) == 0

    run(3, check)
