"""What becomes of requests under way, on a simulated engine that is lost and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from ascend_serve.config.schema import LostRequests
from ascend_serve.replica.recovery import Recovery
from ascend_serve.telemetry.metrics import ReplicaMetrics
from tests.patience import PATIENCE_SECONDS
from tests.unit.replica.test_suspicion import Trial

OBSTACLE = "image"
WAITING = "waiting"


class Requests:
    """Requests under way; one whose name begins with ``image`` cannot go on, with ``waiting`` waits while it has to."""

    def __init__(self, *requests: Trial) -> None:
        self.is_holding = False
        self.is_open = True
        self.left = list(requests)
        self.told: dict[str, str] = {}

    def __iter__(self) -> Iterator[Trial]:
        return iter(list(self.left))

    def count(self, request: Trial) -> int | None:
        return request.tokens if request in self.left else None

    def obstacle(self, request: Trial, vllm_config: Any) -> str | None:
        return OBSTACLE if request.name.startswith(OBSTACLE) else None

    def close(self) -> None:
        self.is_open = False

    def open(self) -> None:
        self.is_open = True

    def is_waiting(self, name: str) -> bool:
        return name.startswith(WAITING) and not self.is_open

    def fail(self, requests: Iterable[Trial], refusal: str = "") -> None:
        for request in list(requests):
            self.left.remove(request)
            self.told[request.name] = refusal or "lost"


class Engine:
    """Takes requests.

    Args:
        requests: What is under way on it.
    """

    vllm_config = None

    def __init__(self, requests: Requests) -> None:
        self.open_requests = requests
        self.turns = requests
        self.got: list[str] = []

    async def stop_reading(self) -> None:
        return

    async def hand_over(self, request: Trial) -> None:
        if request.name == "refused":
            raise OverflowError
        request.tokens_then, request.is_on_engine = request.tokens, True
        self.got.append(request.name)


Check = Callable[[Engine, Recovery], Awaitable[None]]


def run(requests: Requests, check: Check, policy: LostRequests = LostRequests.CONTINUE) -> CollectorRegistry:
    """Lose the engine, and check."""
    registry = CollectorRegistry()

    async def scenario() -> None:
        engine = Engine(requests)
        recovery = Recovery(engine, policy, ReplicaMetrics(registry))  # type: ignore[arg-type]
        await recovery.lose()
        await check(engine, recovery)
        recovery.stop()

    asyncio.run(scenario())
    return registry


def counted(registry: CollectorRegistry) -> dict[str, float]:
    samples = (sample for family in registry.collect() for sample in family.samples)
    found = {s.labels["outcome"]: s.value for s in samples if s.name == "ascend_serve_lost_engine_requests_total"}
    return {outcome: value for outcome, value in found.items() if value}


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


def test_a_stream_of_another_replica_goes_to_the_next_engine_by_itself() -> None:
    requests = Requests(Trial("here", tokens=1), Trial("replayed", tokens=1, is_replayed=True))

    async def check(engine: Engine, recovery: Recovery) -> None:
        recovery.begin_to_hand_over(0.0)
        await until(lambda: engine.got)
        assert engine.got == ["here"]
        assert not requests.told

    run(requests, check)


def test_requests_go_on_in_their_order_and_are_counted() -> None:
    requests = Requests(Trial("a", tokens=5), Trial("image", tokens=1), Trial("new"), Trial("b", tokens=2))

    async def check(engine: Engine, recovery: Recovery) -> None:
        assert requests.told == {"image": "lost"}
        text = recovery.begin_to_hand_over(0.0)
        assert text == "2 continued, 1 retried"
        await until(lambda: len(engine.got) == 2)
        assert engine.got == ["a", "b"], "those beyond suspicion first"
        assert not recovery.is_over
        for request in requests:
            request.tokens += request.name in engine.got
        await until(lambda: engine.got == ["a", "b", "new"])
        for request in requests:
            request.tokens += 1
        await until(lambda: recovery.is_over)

    registry = run(requests, check)
    assert counted(registry) == {"continued": 2, "retried": 1, "failed": 1}
    assert registry.get_sample_value("ascend_serve_lost_engine_gap_seconds_count") == 3


def test_what_waits_for_its_turn_is_no_suspect_and_not_waited_for() -> None:
    waiting = Trial("waiting")
    requests = Requests(Trial("a"), waiting)

    async def check(engine: Engine, recovery: Recovery) -> None:
        assert not waiting.is_suspect
        assert recovery.begin_to_hand_over(0.0) == "1 retried"
        assert not requests.is_waiting("waiting"), "whose turn came with that"
        await until(lambda: engine.got == ["a"])
        requests.left[0].tokens += 1
        await until(lambda: recovery.is_over)
        assert engine.got == ["a"]

    run(requests, check)


def test_where_requests_shall_fail_all_do_at_once_and_late_ones_too() -> None:
    requests = Requests(Trial("a", tokens=5))

    async def check(engine: Engine, recovery: Recovery) -> None:
        assert requests.told == {"a": "lost"}
        requests.left.append(Trial("late"))
        await recovery.lose()
        assert recovery.begin_to_hand_over(0.0) == ""

    registry = run(requests, check, LostRequests.FAIL)
    assert requests.told == {"a": "lost", "late": "lost"}
    assert counted(registry) == {"failed": 2}


def test_who_ends_engines_is_told_so_when_others_are_served_again() -> None:
    requests = Requests(Trial("deadly", is_suspect=True, is_alone=True), Trial("a", tokens=1))

    async def check(engine: Engine, recovery: Recovery) -> None:
        assert requests.told == {}
        assert recovery.begin_to_hand_over(0.0) == "1 continued, 1 given_up"
        assert "not tried again" in requests.told["deadly"]
        await until(lambda: engine.got == ["a"])

    assert counted(run(requests, check)) == {"continued": 1, "given_up": 1}


@pytest.mark.parametrize("goes", ["departs", "stays"])
def test_who_departs_holds_up_nobody(goes: str) -> None:
    first, second = Trial("first"), Trial("second")
    requests = Requests(first, second)

    async def check(engine: Engine, recovery: Recovery) -> None:
        recovery.begin_to_hand_over(0.0)
        await until(lambda: engine.got == ["first"])
        if goes == "departs":
            requests.left.remove(first)
            await until(lambda: engine.got == ["first", "second"])
        else:
            await asyncio.sleep(0.1)
            assert engine.got == ["first"]

    run(requests, check)


def test_an_engine_that_is_lost_while_requests_are_handed_over_gets_no_more() -> None:
    requests = Requests(Trial("first"), Trial("second"))

    async def check(engine: Engine, recovery: Recovery) -> None:
        recovery.begin_to_hand_over(0.0)
        await until(lambda: engine.got == ["first"])
        await recovery.lose()
        recovery.begin_to_hand_over(0.0)
        await until(lambda: engine.got == ["first", "second"])
        assert "not tried again" in requests.told["first"]

    run(requests, check)


def test_one_that_cannot_be_handed_over_holds_up_nobody() -> None:
    requests = Requests(*(Trial(name, tokens=5, is_on_engine=False) for name in ("refused", "a")))

    async def check(engine: Engine, recovery: Recovery) -> None:
        recovery.begin_to_hand_over(0.0)
        await until(lambda: engine.got == ["a"])
        assert requests.told == {"refused": "lost"}

    assert counted(run(requests, check)) == {"continued": 1, "failed": 1}


def test_no_engine_comes_any_more() -> None:
    requests = Requests(Trial("a", tokens=1))

    async def check(engine: Engine, recovery: Recovery) -> None:
        recovery.fail()
        assert requests.told == {"a": "lost"}

    run(requests, check)
