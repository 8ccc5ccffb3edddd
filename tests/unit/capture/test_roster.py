"""The roster: which process is which rank, and what it holds."""

from __future__ import annotations

from ascend_serve.capture.messages import CaptureResult, Join, Leave, Lost
from ascend_serve.capture.roster import Roster
from ascend_serve.graph.death import death_by_signal
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import GraphMode

EIGHT, FOUR = (GraphKey(GraphMode.FULL, size, size, True) for size in (8, 4))


def left(key: GraphKey, incarnation: int = 0, *, ok: bool = True) -> Leave:
    return Leave(0, incarnation, 1, key, CaptureResult(ok=ok, seconds=0.5, streams_used=2, streams_left=10))


def test_a_rank_has_the_graphs_it_captured_as_far_as_they_are_wanted() -> None:
    roster = Roster()
    for message in (Join(0, 0, "node-a", 7, "amx"), left(EIGHT), left(FOUR)):
        roster.note(message)
    (rank,) = roster.states([EIGHT])
    assert (rank.rank, rank.node, rank.pid, rank.state) == (0, "node-a", 7, "leave")
    assert rank.instruction_set == "amx"
    assert (rank.graphs, rank.streams_used, rank.streams_left) == (1, 2, 10)
    assert rank.capture_seconds == 1.0


def test_a_failed_capture_is_none() -> None:
    roster = Roster()
    for message in (Join(0, 0, "node-a"), left(EIGHT, ok=False)):
        roster.note(message)
    assert roster.states([EIGHT])[0].graphs == 0


def test_a_fresh_process_takes_the_place_of_the_old_one() -> None:
    roster = Roster()
    for message in (Join(0, 0, "node-a", 7), left(EIGHT), Join(0, 1, "node-b", 9), left(FOUR, incarnation=0)):
        roster.note(message)
    (rank,) = roster.states([EIGHT, FOUR])
    assert (rank.pid, rank.incarnation, rank.graphs) == (9, 1, 0)


def test_a_lost_rank_is_said_to_be() -> None:
    roster = Roster()
    for message in (Join(0, 0, "node-a"), Lost(0, 0, death_by_signal("SIGKILL"))):
        roster.note(message)
    assert roster.states([])[0].state == "lost"


def test_a_process_that_joins_another_session_keeps_its_graphs() -> None:
    roster = Roster()
    for message in (Join(0, 0, "node-a", 7), left(EIGHT), Join(0, 0, "node-a", 7)):
        roster.note(message)
    (rank,) = roster.states([EIGHT])
    assert (rank.graphs, rank.state) == (1, "join")
