"""Which processes wait for ranks of a replacement, and which ranks have none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ray.exceptions import ActorUnschedulableError

from ascend_serve.cluster.reserve import Reserve
from ascend_serve.replica import spares as spares_module
from ascend_serve.replica.spares import Place, Spares, missing
from tests.patience import PATIENCE_SECONDS

MOVED = {0: "a", 1: "c", 2: "c"}
"""Bundles 1 and 2 came to a node on which none was before."""


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        pytest.param([], [0, 1, 2], id="none"),
        pytest.param([0, 1, 2], [], id="one-in-each-bundle"),
        pytest.param([0], [1, 2], id="those-of-the-lost-node-are-gone"),
        pytest.param([0, Reserve("c", 0)], [2], id="one-beside-them-for-one-of-two"),
        pytest.param([0, Reserve("c", 0), Reserve("c", 1)], [], id="one-beside-them-for-each"),
        pytest.param([0, Reserve("d", 0), Reserve("d", 1)], [1, 2], id="on-another-node"),
        pytest.param([Reserve("c", 0), Reserve("c", 1)], [0], id="none-where-a-rank-stayed"),
    ],
)
def test_one_is_begun_for_each_rank_that_has_none_in_its_bundle_or_on_its_node(
    here: list[Place], expected: list[int]
) -> None:
    assert missing(MOVED, here) == expected


BESIDE = Reserve("c", 0)


class Process:
    """A spare that waits, or one that Ray cannot start since its node is gone."""

    def __init__(self, *, is_lost: bool = False) -> None:
        self.wait = self
        self._is_lost = is_lost

    async def remote(self) -> None:
        if self._is_lost:
            raise ActorUnschedulableError("its node is gone")


class RanksOnTwoNodes(Spares):
    """Spares of ranks on nodes ``a`` and ``b``, beside which is ``c``; the first one there cannot be started."""

    def __init__(self) -> None:
        super().__init__(None)
        self.nodes = {0: "a", 1: "b"}
        self.started: list[Place] = []

    @property
    def _bundles(self) -> list[int]:
        return list(self.nodes)

    def _nodes(self) -> dict[int, str]:
        return self.nodes

    async def _reserves(self) -> list[Reserve]:
        return [BESIDE]

    async def _start(self, group: str, place: Place, worker_class: str) -> Any:
        self.started.append(place)
        return Process(is_lost=self.started.count(place) == 1 and place == BESIDE)


async def ready(spares: Spares, number: int) -> None:
    keeping = asyncio.create_task(spares.keep("group", "worker"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while spares.number < number:
            await asyncio.sleep(0.01)
    keeping.cancel()


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Processes that were ended."""
    ended: list[Any] = []
    monkeypatch.setattr("ray.kill", ended.append)
    monkeypatch.setattr(spares_module, "_LOOK_SECONDS", 0.01)
    return ended


def test_those_of_the_first_engine_begin_in_the_bundles_of_its_ranks_and_are_ended_with_it(ended: list[Any]) -> None:
    spares = RanksOnTwoNodes()
    asyncio.run(spares.begin("group"))
    assert spares.started == [0, 1]
    first = spares.taken
    spares.hand_over()
    assert ended == first


def test_one_that_cannot_be_started_is_tried_again(ended: list[Any]) -> None:
    spares = RanksOnTwoNodes()
    asyncio.run(ready(spares, 3))
    assert spares.started == [0, 1, BESIDE, BESIDE]
    assert not ended


@pytest.mark.parametrize(
    ("nodes", "are_beside"),
    [
        pytest.param({0: "a", 1: "b"}, False, id="no-node-was-lost"),
        pytest.param({0: "a", 1: "c"}, True, id="the-rank-came-to-where-one-waits"),
        pytest.param({0: "a", 1: "d"}, False, id="the-rank-came-to-another-node"),
    ],
)
def test_who_waits_beside_the_ranks_of_a_replacement_ends(
    nodes: dict[int, str], are_beside: bool, ended: list[Any]
) -> None:
    async def replaced() -> RanksOnTwoNodes:
        spares = RanksOnTwoNodes()
        await ready(spares, 3)
        spares.hand_over()
        spares.nodes = nodes
        await spares.complete("group", "worker")
        return spares

    spares = asyncio.run(replaced())
    assert len(ended) == (0 if are_beside else 1)
    assert spares.started[4:] == []
