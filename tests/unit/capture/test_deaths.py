"""What a session makes of deaths: which end the start, which go on, and what is said about them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ascend_serve.capture.messages import Arrive, CaptureResult, Failed, Join, Leave, Lost, Phase, Propose
from ascend_serve.capture.outcome import OutcomeKind
from ascend_serve.capture.session import DEATH_SECONDS, Session
from ascend_serve.events import EventKind
from ascend_serve.graph.death import WorkerLog, death_by_signal, read_death
from ascend_serve.graph.ladder import describe
from ascend_serve.graph.modes import GraphMode, OnFailure, RuntimeName
from ascend_serve.graph.plan import GraphRequest
from tests.unit.capture.simulated import DEADLINES, ERRORS, Fault, Group, able

ASKED = GraphRequest(RuntimeName.ACLGRAPH, GraphMode.FULL_DECODE_ONLY, (1, 2, 4, 8))
EAGER = replace(ASKED, mode=GraphMode.NONE, capture_sizes=())
XLITE = replace(ASKED, runtime=RuntimeName.XLITE)
STRICT = replace(ASKED, on_failure=OnFailure.EAGER)


def crash(phase: Phase, signal: str = "SIGILL", rank: int = 0, size: int | None = None) -> Fault:
    return Fault(rank, phase, "crash", size, signal=signal)


SEAL, CAPTURE, PROPOSE = Phase.SEAL, Phase.CAPTURE, Phase.PROPOSE

# What is asked for; the faults, one process after the other; the end; how many times workers were replaced.
REPEATED = [
    pytest.param(ASKED, [crash(SEAL)], "sealed aclgraph", 1, id="once: tried again"),
    pytest.param(ASKED, [crash(SEAL), crash(SEAL)], "abort", 1, id="twice in the seal of graphs: ends"),
    pytest.param(EAGER, [crash(SEAL), crash(SEAL)], "abort", 1, id="twice in the seal of eager: ends"),
    pytest.param(STRICT, [crash(SEAL), crash(SEAL)], "abort", 1, id="under graphs, then in eager: ends"),
    pytest.param(ASKED, [crash(SEAL), crash(SEAL, rank=1)], "abort", 1, id="on another rank: the same death"),
    pytest.param(ASKED, [crash(SEAL), crash(SEAL, "SIGBUS")], "sealed eager", 2, id="another death: goes on"),
    pytest.param(ASKED, [crash(PROPOSE), crash(SEAL)], "sealed eager", 2, id="another place: goes on"),
    pytest.param(ASKED, [crash(CAPTURE, size=8)] * 2, "sealed eager", 2, id="in a graph: a lower plan goes without it"),
    pytest.param(XLITE, [crash(SEAL)] * 2, "sealed aclgraph", 2, id="in Xlite: ACLGraph may do without it"),
    pytest.param(XLITE, [crash(SEAL)] * 4, "abort", 3, id="in Xlite and twice in what comes after it: ends"),
]


@pytest.mark.parametrize(("asked", "faults", "end", "replacements"), REPEATED)
def test_the_same_death_at_the_same_place_ends_the_start(
    asked: GraphRequest, faults: list[Fault], end: str, replacements: int
) -> None:
    group = Group(asked, faults=faults)
    outcome = group.run()
    plan = f" {outcome.plan.runtime.value}" if outcome.plan and outcome.kind is OutcomeKind.SEALED else ""
    assert f"{outcome.kind.value}{plan}" == end
    assert len(group.outcomes) - 1 == replacements


def test_the_reason_says_that_it_came_twice_and_the_advice_goes_by_the_signal() -> None:
    outcome = Group(EAGER, faults=[crash(SEAL), crash(SEAL)]).run()
    assert outcome.reason == (
        "rank 0 (node-0) in seal: lost: its worker process was ended by SIGILL (illegal instruction), "
        "as before the workers were replaced"
    )
    assert "processor" in outcome.remedy


class Talk:
    """A session and its clock, spoken to by hand."""

    def __init__(self, asked: GraphRequest = ASKED, ranks: int = 2) -> None:
        self.session, self.ranks, self.now = Session(ranks, asked, DEADLINES), ranks, 0.0

    def say(self, *messages: object) -> list[str]:
        answers = []
        for message in messages:
            self.now += 1
            answers += [answer.verdict.kind.value for answer in self.session.handle(message, self.now)]  # type: ignore[arg-type]
        return answers

    def agree(self, incarnation: int = 0) -> None:
        for rank in range(self.ranks):
            self.say(Join(rank, incarnation, f"node-{rank}"))
        for rank in range(self.ranks):
            self.say(Propose(rank, incarnation, able(ASKED)))

    def capture_one(self, incarnation: int = 0) -> None:
        key, epoch = self.session.key, self.session.epoch
        assert key is not None
        self.say(*(Arrive(rank, incarnation, epoch, key) for rank in range(self.ranks)))
        self.say(*(Leave(rank, incarnation, epoch, key, CaptureResult(True)) for rank in range(self.ranks)))

    def lose(self, rank: int = 0, incarnation: int = 0, *, final: bool = False) -> list[str]:
        return self.say(Lost(rank, incarnation, death_by_signal("SIGILL"), f"10.0.0.{rank}", final))

    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.session.tick(self.now)

    @property
    def end(self) -> str:
        return "" if self.session.outcome is None else self.session.outcome.kind.value

    @property
    def reason(self) -> str:
        return "" if self.session.outcome is None else self.session.outcome.reason


def test_a_death_before_the_first_graph_is_one_outside_of_graphs() -> None:
    talk = Talk()
    for incarnation, end in ((0, "replace"), (1, "abort")):
        talk.agree(incarnation)
        talk.lose(incarnation=incarnation)
        assert talk.end == end


def test_a_death_between_two_graphs_may_be_the_work_of_the_one_before() -> None:
    talk = Talk()
    for incarnation in (0, 1):
        talk.agree(incarnation)
        talk.capture_one(incarnation)
        talk.lose(incarnation=incarnation)
        assert talk.end == "replace"
    assert talk.session.outcome is not None
    assert talk.session.outcome.plan is not None
    assert describe(talk.session.outcome.plan) == "eager"


def test_a_death_outside_of_a_session_ends_it_and_names_the_node_of_a_rank_that_never_joined() -> None:
    talk = Talk()
    talk.lose(1, final=True)
    assert talk.end == "abort"
    assert talk.reason.startswith("rank 1 (10.0.0.1) in join: lost: its worker process was ended by SIGILL")


class TestHearsay:
    """Peers of a dead rank notice first, and know less."""

    GONE = Failed(1, 0, Phase.SEAL, "RuntimeError", ERRORS["peer_gone"])

    def test_word_of_the_death_is_waited_for(self) -> None:
        talk = Talk()
        talk.agree()
        assert talk.say(self.GONE) == []
        assert talk.end == ""
        assert talk.lose() == ["replace"]
        assert "ended by SIGILL" in talk.reason

    def test_but_not_for_long(self) -> None:
        talk = Talk()
        talk.agree()
        talk.say(self.GONE)
        talk.time_passes(DEATH_SECONDS - 1)
        assert talk.end == ""
        talk.time_passes(1)
        assert talk.end == "replace"
        assert "Connection closed by peer" in talk.reason

    def test_a_second_peer_changes_nothing(self) -> None:
        talk = Talk(ranks=3)
        talk.agree()
        talk.say(self.GONE, replace(self.GONE, rank=2))
        assert talk.end == ""
        talk.time_passes(DEATH_SECONDS)
        assert talk.end == "replace"

    def test_it_holds_in_a_graph_too(self) -> None:
        talk = Talk()
        talk.agree()
        key, epoch = talk.session.key, talk.session.epoch
        assert key is not None
        talk.say(*(Arrive(rank, 0, epoch, key) for rank in (0, 1)))
        told = CaptureResult(False, phase=Phase.WARMUP, error_type="RuntimeError", error_text=ERRORS["peer_gone"])
        assert talk.say(Leave(1, 0, epoch, key, told)) == []
        assert talk.lose() == ["replace"]
        assert "rank 0 (node-0) in capture of FULL/8: lost: its worker process was ended by SIGILL" in talk.reason

    def test_a_rank_that_tells_why_it_left_needs_no_death(self) -> None:
        talk = Talk()
        talk.agree()
        talk.say(self.GONE, Failed(0, 0, Phase.SEAL, "RuntimeError", "error code is 507015"))
        assert talk.end == "replace"
        assert "507015" in talk.reason


def test_what_the_log_says_is_in_the_reason_and_in_the_event_but_not_in_the_plan() -> None:
    log = WorkerLog("/tmp/ray/worker-7.err", ("*** SIGSEGV received at time=1", '  File "a.py", line 3 in work'))
    talk = Talk()
    talk.agree()
    key, epoch = talk.session.key, talk.session.epoch
    assert key is not None
    talk.say(*(Arrive(rank, 0, epoch, key) for rank in (0, 1)))
    talk.say(Lost(0, 0, read_death("", log)))
    story = "\n  its log on that node, /tmp/ray/worker-7.err, says:\n    work (a.py:3)"
    assert talk.reason.endswith(story)
    (failed,) = [event for event in talk.session.events if event.kind is EventKind.FAILED]
    assert failed.text.endswith(story)
    assert talk.session.outcome is not None
    assert talk.session.outcome.plan is not None
    assert all("\n" not in adjustment.reason for adjustment in talk.session.outcome.plan.adjustments)


def test_what_the_host_lacks_ends_the_start_at_once() -> None:
    group = Group(ASKED, faults=[Fault(0, PROPOSE, "no_compiler")])
    outcome = group.run()
    assert (outcome.kind, len(group.outcomes)) == (OutcomeKind.ABORT, 1)
    assert "g++" in outcome.remedy


def test_within_a_graph_it_may_not_be_needed_without_graphs() -> None:
    outcome = Group(ASKED, faults=[Fault(0, CAPTURE, "no_compiler", recorded=False)]).run()
    assert outcome.kind is OutcomeKind.SEALED
    assert outcome.plan is not None
    assert describe(outcome.plan) == "eager"
