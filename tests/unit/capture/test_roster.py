"""The roster: which process is which rank, and what it holds, as events tell."""

from __future__ import annotations

from ascend_serve.capture.roster import RankState, Roster
from ascend_serve.events import Captured, CaptureFailed, Discarded, Event, Joined, Sealed
from ascend_serve.graph.failure import FailureKind

EIGHT, FOUR = "FULL/8", "FULL/4"


def joined(incarnation: int = 0, node: str = "node-a", pid: int = 7) -> Joined:
    return Joined(time=0.0, rank=0, incarnation=incarnation, node=node, pid=pid, ranks=1, instruction_set="amx")


def captured(key: str, incarnation: int = 0) -> Captured:
    return Captured(
        time=1.0, rank=0, incarnation=incarnation, key=key, seconds=0.5, streams_used=2, streams_left=10, memory=64
    )


def rank_after(*events: Event, planned: tuple[str, ...] = (EIGHT, FOUR)) -> RankState:
    roster = Roster()
    for event in events:
        roster.note(event)
    (rank,) = roster.states(planned)
    return rank


def test_a_rank_has_the_graphs_it_captured_as_far_as_they_are_wanted() -> None:
    rank = rank_after(joined(), captured(EIGHT), captured(FOUR), planned=(EIGHT,))
    assert (rank.rank, rank.node, rank.pid, rank.state) == (0, "node-a", 7, "captured")
    assert rank.instruction_set == "amx"
    assert (rank.graphs, rank.streams_used, rank.streams_left) == (1, 2, 10)
    assert rank.capture_seconds == 1.0
    assert rank.graph_memory == 128


def test_where_no_device_tells_nothing_is_known() -> None:
    unknown = captured(EIGHT).model_copy(update={"streams_used": None, "memory": None})
    rank = rank_after(joined(), unknown, captured(FOUR))
    assert (rank.streams_used, rank.graph_memory) == (None, None)


def test_a_failed_capture_is_none() -> None:
    rank = rank_after(joined(), CaptureFailed(time=1.0, rank=0, key=EIGHT, failure=FailureKind.OUT_OF_MEMORY))
    assert (rank.graphs, rank.state) == (0, "failed")


def test_a_discarded_graph_is_none_until_it_is_captured_again() -> None:
    discarded = Discarded(time=1.0, keys=(EIGHT,))
    assert rank_after(joined(), captured(EIGHT), captured(FOUR), discarded).graphs == 1
    assert rank_after(joined(), captured(EIGHT), discarded, captured(EIGHT)).graphs == 1


def test_a_fresh_process_takes_the_place_of_the_old_one() -> None:
    rank = rank_after(joined(), captured(EIGHT), joined(1, "node-b", 9), captured(FOUR, incarnation=0))
    assert (rank.pid, rank.incarnation, rank.graphs) == (9, 1, 0)


def test_a_lost_rank_is_said_to_be() -> None:
    assert rank_after(joined(), CaptureFailed(time=1.0, rank=0, failure=FailureKind.LOST)).state == "lost"


def test_a_process_that_joins_another_session_keeps_its_graphs() -> None:
    rank = rank_after(joined(), captured(EIGHT), Sealed(time=2.0), joined())
    assert (rank.graphs, rank.state) == (1, "joined")
