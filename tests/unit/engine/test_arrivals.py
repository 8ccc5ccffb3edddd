"""Requests that come together go to an idle engine core together; nobody waits for what does not come."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from vllm import SamplingParams

from ascend_serve.engine.arrivals import CLIENT, Arrivals
from tests.patience import PATIENCE_SECONDS
from tests.unit.engine.test_open_requests import request


class Replica:
    """Requests on their way, and how they came to the engine core: with a ``+`` where another one follows."""

    def __init__(self) -> None:
        self.now = 0.0
        self.is_idle = True
        self.sent: list[str] = []
        self._arrivals = Arrivals(lambda: self.now)
        self._ready: dict[str, asyncio.Event] = {}
        self._answers: dict[str, asyncio.Task[None]] = {}

    async def comes(self, *names: str) -> None:
        for name in names:
            self._ready[name] = asyncio.Event()
            self._answers[name] = asyncio.create_task(self._answer(name))
        await _some_turns()

    async def is_ready(self, *names: str) -> None:
        for name in names:
            self._ready[name].set()
        await _some_turns()

    async def goes(self, name: str) -> None:
        self._answers[name].cancel()
        await _some_turns()

    async def all_answered(self) -> None:
        for answer in self._answers.values():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait_for(answer, PATIENCE_SECONDS)

    async def _answer(self, name: str) -> None:
        with self._arrivals.coming(name):
            await self._ready[name].wait()
            assert CLIENT.get() == name
            if name == "page":
                return
            asked = request(name, SamplingParams(max_tokens=9))
            await self._arrivals.together(asked, is_idle=self.is_idle)
            self.sent.append(f"{name}+" if asked.trace_headers else name)


async def _some_turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def _alone(replica: Replica) -> None:
    await replica.comes("a")
    await replica.is_ready("a")
    assert replica.sent == ["a"]


async def _together(replica: Replica) -> None:
    await replica.comes("a", "b", "c")
    await replica.is_ready("a", "b")
    assert replica.sent == []
    await replica.is_ready("c")


async def _one_after_the_other(replica: Replica) -> None:
    await replica.comes("a")
    await replica.is_ready("a")
    await replica.comes("b")
    replica.is_idle = False
    await replica.is_ready("b")


async def _with_a_page(replica: Replica) -> None:
    await replica.comes("a", "page")
    await replica.is_ready("a")
    assert replica.sent == []
    await replica.is_ready("page")


async def _engine_is_busy(replica: Replica) -> None:
    replica.is_idle = False
    await replica.comes("a", "b")
    await replica.is_ready("a")
    assert replica.sent == ["a"]
    await replica.is_ready("b")


async def _long_under_way(replica: Replica) -> None:
    await replica.comes("long")
    replica.now = 1.0
    await replica.comes("a")
    await replica.is_ready("a")
    assert replica.sent == ["a"]
    await replica.is_ready("long")


async def _never_ready(replica: Replica) -> None:
    await replica.comes("a", "b", "stuck")
    await replica.is_ready("a", "b")
    while not replica.sent:
        await asyncio.sleep(0.001)
    await replica.goes("stuck")


async def _other_goes(replica: Replica) -> None:
    await replica.comes("a", "b")
    await replica.is_ready("a")
    await replica.goes("b")


async def _goes_while_it_waits(replica: Replica) -> None:
    await replica.comes("a", "b", "c")
    await replica.is_ready("a")
    await replica.goes("a")
    await replica.is_ready("b", "c")


@pytest.mark.parametrize(
    ("scenario", "sent"),
    [
        pytest.param(_alone, ["a"], id="one alone goes at once"),
        pytest.param(_together, ["c+", "a+", "b"], id="those that came together"),
        pytest.param(_one_after_the_other, ["a", "b"], id="one after the other"),
        pytest.param(_with_a_page, ["a"], id="one beside something else that is soon done"),
        pytest.param(_engine_is_busy, ["a", "b"], id="a busy engine takes them at its next step"),
        pytest.param(_long_under_way, ["a", "long"], id="one beside something else that takes long"),
        pytest.param(_never_ready, ["a+", "b"], id="what never comes is not waited for"),
        pytest.param(_other_goes, ["a"], id="the other one's client goes"),
        pytest.param(_goes_while_it_waits, ["c+", "b"], id="a client goes while others are waited for"),
    ],
)
async def test_what_goes_to_an_idle_engine_core(scenario: object, sent: list[str]) -> None:
    replica = Replica()
    await scenario(replica)  # type: ignore[operator]
    await replica.all_answered()
    assert replica.sent == sent
