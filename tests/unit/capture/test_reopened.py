"""A second session of the same processes: what they hold and want again is not captured again."""

from __future__ import annotations

from ascend_serve.capture.deadlines import Deadlines
from ascend_serve.capture.messages import Arrive, Join, Propose, Seal, VerdictKind
from ascend_serve.capture.session import Session
from ascend_serve.graph.keys import capture_keys
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import GraphRequest, Proposal

MODE = GraphMode.FULL_DECODE_ONLY
REQUEST = GraphRequest(RuntimeName.ACLGRAPH, MODE, (2, 8), max_num_seqs=8)
PROPOSAL = Proposal((RuntimeName.ACLGRAPH, RuntimeName.EAGER), MODE, (2, 8))


def test_graphs_that_are_held_stay_and_the_others_are_captured() -> None:
    held = capture_keys(MODE, (4, 8), max_num_seqs=8)
    session = Session(1, REQUEST, Deadlines(1, 1, 1, 1), held=held)
    session.handle(Join(0, 0, "node"), 0.0)
    (answer,) = session.handle(Propose(0, 0, PROPOSAL), 0.0)
    eight, two = capture_keys(MODE, (2, 8), max_num_seqs=8)
    assert answer.verdict.kept == (eight,)
    assert [a.verdict.kind for a in session.handle(Arrive(0, 0, 1, eight), 0.0)] == [VerdictKind.COMMIT]
    assert [a.verdict.kind for a in session.handle(Arrive(0, 0, 1, two), 0.0)] == [VerdictKind.GO]


def test_nothing_to_capture_goes_straight_to_the_seal() -> None:
    session = Session(1, REQUEST, Deadlines(1, 1, 1, 1), held=capture_keys(MODE, (2, 8), max_num_seqs=8))
    session.handle(Join(0, 0, "node"), 0.0)
    session.handle(Propose(0, 0, PROPOSAL), 0.0)
    assert [a.verdict.kind for a in session.handle(Seal(0, 0, 1, "digest"), 0.0)] == [VerdictKind.SEALED]
