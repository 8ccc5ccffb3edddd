"""What the driver tells those who serve of losses, aborts and standstills; the driver's class itself, without Ray."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ascend_serve.capture.deadlines import Deadlines
from ascend_serve.capture.driver import CaptureDriver
from ascend_serve.capture.messages import Join, Lost, Propose, Seal
from ascend_serve.capture.outcome import IncarnationOutcome, OutcomeKind
from ascend_serve.graph.death import death_by_signal
from ascend_serve.graph.modes import GraphMode, OnFailure, RuntimeName
from ascend_serve.graph.plan import GraphRequest, Proposal

REQUEST = GraphRequest(RuntimeName.EAGER, GraphMode.NONE, (), max_num_seqs=8)
PROPOSAL = Proposal((RuntimeName.EAGER,), GraphMode.NONE, ())
KILLED = death_by_signal("SIGKILL")
INCARNATION = 3
"""Of workers that come after those of earlier groups."""


async def _sealed_group() -> CaptureDriver:
    driver = CaptureDriver(2, REQUEST, Deadlines(60, 60, 60, 60), incarnation=INCARNATION)
    for questions in (
        [Join(rank, INCARNATION, f"node-{rank}") for rank in (0, 1)],
        [Propose(rank, INCARNATION, PROPOSAL) for rank in (0, 1)],
        [Seal(rank, INCARNATION, 1, "digest") for rank in (0, 1)],
    ):
        await asyncio.gather(*(driver.ask(question) for question in questions))
    outcome = driver.snapshot().outcome
    assert outcome is not None
    assert outcome.kind is OutcomeKind.SEALED
    return driver


def test_a_rank_that_is_lost_is_named_to_whoever_waits_for_it() -> None:
    async def scenario() -> str:
        driver = await _sealed_group()
        waiting = asyncio.create_task(driver.loss())
        await asyncio.sleep(0)
        assert not waiting.done()
        await driver.tell(Lost(1, INCARNATION, KILLED, final=True))
        return await asyncio.wait_for(waiting, 10)

    reason = asyncio.run(scenario())
    assert "rank 1 (node-1) in serve" in reason
    assert "ended by SIGKILL" in reason


def test_an_abort_is_told_with_its_remedy_to_whoever_waits_for_it() -> None:
    async def scenario() -> IncarnationOutcome:
        request = replace(REQUEST, on_failure=OnFailure.FAIL)
        driver = CaptureDriver(1, request, Deadlines(60, 60, 60, 60))
        joined = asyncio.create_task(driver.ask(Join(0, 0, "node-0")))
        waiting = asyncio.create_task(driver.abort())
        await joined
        assert not waiting.done()
        await driver.tell(Lost(0, 0, KILLED))
        return await asyncio.wait_for(waiting, 10)

    outcome = asyncio.run(scenario())
    assert outcome.kind is OutcomeKind.ABORT
    assert "rank 0 (node-0)" in outcome.reason
    assert "dmesg" in outcome.remedy


@pytest.mark.parametrize(
    ("places", "text"),
    [
        ({}, ""),
        (
            {0: "in wait (x.py:3)"},
            "rank 1 (node-1) cannot even tell where: stopped (`kill -CONT` lets a process go on), held up by the "
            "device, or cut off; meanwhile rank 0 (node-0) stands in wait (x.py:3)",
        ),
        ({1: "in b", 0: "in a"}, "rank 0 (node-0) stands in a; rank 1 (node-1) stands in b"),
        ({1: ""}, ""),
    ],
    ids=["nobody", "one that waits for another, which is stopped", "all, in their order", "one that went on"],
)
def test_ranks_that_stand_still_are_named_with_the_place(places: dict[int, str], text: str) -> None:
    async def scenario() -> str:
        driver = await _sealed_group()
        for rank, place in places.items():
            driver.note_place(rank, place)
        return driver.standstill()

    assert asyncio.run(scenario()) == text
