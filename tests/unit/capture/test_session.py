"""The session against every fault at every phase: the plan it ends with and the incarnations it takes."""

import math
from dataclasses import replace

import pytest

from ascend_serve.capture.messages import (
    Arrive,
    CaptureResult,
    Compiling,
    Failed,
    Join,
    Leave,
    Lost,
    Phase,
    Propose,
    Seal,
    VerdictKind,
)
from ascend_serve.capture.outcome import OutcomeKind
from ascend_serve.capture.session import Session
from ascend_serve.capture.state import State
from ascend_serve.events import Captured, EventKind
from ascend_serve.graph.death import death_by_signal
from ascend_serve.graph.ladder import describe, make_plan
from ascend_serve.graph.modes import GraphMode, OnFailure, RuntimeName
from ascend_serve.graph.plan import Adjustment, GraphRequest
from tests.unit.capture.simulated import DEADLINES, Device, Fault, Group, able

SIZES = (1, 2, 4, 8)
DECODE, BOTH = GraphMode.FULL_DECODE_ONLY, GraphMode.FULL_AND_PIECEWISE
ASKED = GraphRequest(RuntimeName.ACLGRAPH, DECODE, SIZES)
WHOLE = "aclgraph FULL_DECODE_ONLY at 1, 2, 4, 8"
KILLED = death_by_signal("SIGKILL")
STREAMS = Adjustment("stream-budget", WHOLE, "aclgraph FULL_DECODE_ONLY at 8", "4 graphs take 8 streams")
JOIN, PROPOSE, WARMUP, CAPTURE, SEAL = Phase.JOIN, Phase.PROPOSE, Phase.WARMUP, Phase.CAPTURE, Phase.SEAL


def sealed(group: Group) -> str:
    """Run the group; check that all ranks are sealed with the same graphs; the plan in words."""
    outcome = group.run()
    assert outcome.kind is OutcomeKind.SEALED
    assert outcome.plan is not None
    assert {member.ended for member in group.members} == {VerdictKind.SEALED}
    assert all(member.held == set(outcome.plan.keys) for member in group.members)
    return describe(outcome.plan)


def test_without_faults_the_whole_plan_is_captured_in_lockstep() -> None:
    group = Group(ASKED, ranks=3)
    assert sealed(group) == WHOLE
    captured = [event for event in group.session.events if isinstance(event, Captured)]
    assert [event.key for event in captured] == [f"FULL/{size}" for size in (8, 8, 8, 4, 4, 4, 2, 2, 2, 1, 1, 1)]
    assert {event.seconds for event in captured} == {0.5}


# The fault; the plan in the end; how many times workers were replaced.
MATRIX = [
    *[
        pytest.param(Fault(rank, phase, error), WHOLE, 1, id=f"{error} in {phase.value} on rank {rank}")
        for rank in (0, 1)
        for phase in (JOIN, PROPOSE)
        for error in ("unknown", "device_fault", "hang", "crash")
    ],
    *[
        pytest.param(
            Fault(rank, CAPTURE, "stream_exhausted", size, recorded=False),
            words,
            0,
            id=f"streams refused at {size} on rank {rank}",
        )
        for rank in (0, 1)
        for size, words in [
            (8, "eager"),
            (4, "aclgraph FULL_DECODE_ONLY at 8"),
            (1, "aclgraph FULL_DECODE_ONLY at 2, 4, 8"),
        ]
    ],
    *[
        pytest.param(
            Fault(1, CAPTURE, error, 4, recorded),
            "eager",
            int(recorded or error == "device_fault"),
            id=f"{error} in capture, {'recorded' if recorded else 'nothing recorded'}",
        )
        for error in ("old_hdk", "not_capturable", "unknown", "device_fault")
        for recorded in (False, True)
    ],
    *[
        pytest.param(Fault(0, WARMUP, error, size), "eager", 1, id=f"{error} in warm-up at {size}")
        for error in ("unknown", "device_fault", "not_capturable", "hang")
        for size in (8, 1)
    ],
    pytest.param(Fault(1, CAPTURE, "hang", 4), "eager", 1, id="hang in capture"),
    pytest.param(Fault(1, CAPTURE, "crash", 4), WHOLE, 1, id="crash in capture: the plan is tried once more"),
    pytest.param(Fault(1, WARMUP, "crash", 4), WHOLE, 1, id="crash in warm-up: the plan is tried once more"),
    pytest.param(
        Fault(0, CAPTURE, "out_of_memory", 8, recorded=False),
        "aclgraph FULL_DECODE_ONLY at 1, 2, 4",
        0,
        id="no memory for the largest: smaller ones, in place",
    ),
    pytest.param(
        Fault(0, CAPTURE, "out_of_memory", 2),
        "aclgraph FULL_DECODE_ONLY at 2, 8",
        1,
        id="no memory in the middle of a capture: as many as were captured, fresh workers",
    ),
    *[
        pytest.param(Fault(rank, SEAL, error), "eager", 1, id=f"{error} in seal on rank {rank}")
        for rank in (0, 1)
        for error in ("unknown", "wrong", "hang", "device_fault")
    ],
    pytest.param(Fault(0, SEAL, "crash"), WHOLE, 1, id="crash in seal"),
]


@pytest.mark.parametrize(("fault", "words", "replacements"), MATRIX)
def test_one_fault(fault: Fault, words: str, replacements: int) -> None:
    group = Group(ASKED, faults=[fault])
    assert sealed(group) == words
    assert len(group.outcomes) - 1 == replacements


def test_a_warm_up_that_fails_is_decided_without_waiting_for_its_peers() -> None:
    group = Group(ASKED, ranks=4, faults=[Fault(2, WARMUP, "unknown", 4)])
    sealed(group)
    ends = [event for event in group.session.events if event.kind is EventKind.REPLACED]
    assert ends[0].time < 1.0
    assert ends[0].text == "rank 2 (node-1) in warmup of FULL/4: unknown: RuntimeError: something else"


@pytest.mark.parametrize(
    ("tell", "named"),
    [
        pytest.param((), "ranks 0-1 (node) in capture", id="nobody tells where it stands"),
        pytest.param((0,), "rank 1 (node) in capture", id="one waits for another, which is stopped"),
        pytest.param((0, 1), "ranks 0-1 (node) in capture", id="both tell"),
    ],
)
def test_of_ranks_that_hang_those_are_named_that_cannot_tell_where(tell: tuple[int, ...], named: str) -> None:
    session = Session(2, ASKED, DEADLINES)
    for rank in (0, 1):
        session.handle(Join(rank, 0, "node"), 1.0)
    for rank in (0, 1):
        session.handle(Propose(rank, 0, able(ASKED)), 1.0)
    assert session.key is not None
    for rank in (0, 1):
        session.handle(Arrive(rank, 0, session.epoch, session.key), 1.0)
    for rank in tell:
        session.meeting.places[rank] = "in all_reduce (x.py:3)"
    session.tick(1.0 + DEADLINES.capture)
    assert session.outcome is not None
    assert session.outcome.reason.startswith(f"{named} of FULL/8: deadline")


def test_a_hang_is_named_with_rank_node_and_phase() -> None:
    group = Group(ASKED, ranks=4, faults=[Fault(3, CAPTURE, "hang", 4)])
    sealed(group)
    assert "rank 3 (node-1) in capture of FULL/4: deadline: no answer within 120 s" in group.outcomes[0].reason


def test_a_single_rank_that_fails_in_a_warm_up_goes_on_in_place() -> None:
    group = Group(ASKED, ranks=1, faults=[Fault(0, WARMUP, "unknown", 4)])
    assert sealed(group) == "eager"
    assert len(group.outcomes) == 1


def test_graphs_that_are_still_wanted_stay() -> None:
    group = Group(ASKED, prepare=lambda rank: (able(ASKED), Device(quota=3 if rank else None)))
    assert sealed(group) == "aclgraph FULL_DECODE_ONLY at 2, 4, 8"
    captures = [event.key for event in group.session.events if event.kind is EventKind.CAPTURED and event.rank == 0]
    assert len(captures) == 4  # 8, 4, 2 stay; 1 was captured here, refused on the other rank and dropped


LEARNED = [
    pytest.param(BOTH, [Device(15, per_full=1, per_piecewise=5)], id="streams left count"),
    pytest.param(
        BOTH,
        [Device(20, per_full=1, per_piecewise=5), Device(25, per_full=10, per_piecewise=1)],
        id="what the others have left counts too",
    ),
]


@pytest.mark.parametrize(("mode", "devices"), LEARNED)
def test_one_refusal_teaches_enough_for_one_new_plan(mode: GraphMode, devices: list[Device]) -> None:
    asked = replace(ASKED, mode=mode)
    proposals = [
        able(asked, streams_per_full=device.per_full, streams_per_piecewise=device.per_piecewise) for device in devices
    ]
    group = Group(asked, ranks=len(devices), prepare=lambda rank: (proposals[rank], devices[rank]))
    words = sealed(group)
    assert words.count(",") == 1  # two sizes
    assert [event.kind for event in group.session.events].count(EventKind.REPLANNED) == 1


def test_a_refusal_names_what_was_learned_in_the_plan() -> None:
    group = Group(ASKED, prepare=lambda rank: (able(ASKED), Device(quota=2)))
    sealed(group)
    assert group.session.plan is not None
    (adjustment,) = group.session.plan.adjustments
    assert adjustment.rule == "capture-failure"
    assert "rank 0 (node-0) in capture of FULL/2: stream exhausted" in adjustment.reason


ENDS = [
    pytest.param([Fault(1, CAPTURE, "unknown", 4, recorded=False)], id="in place"),
    pytest.param([Fault(1, CAPTURE, "stream_exhausted", 4, recorded=False)], id="streams"),
    pytest.param([Fault(0, CAPTURE, "crash", 4)], id="crash"),
    pytest.param([Fault(0, SEAL, "wrong")], id="wrong numbers"),
    pytest.param([Fault(0, JOIN, "hang")], id="never joined"),
]


@pytest.mark.parametrize("faults", ENDS)
def test_fail_gives_up_with_reason_and_remedy(faults: list[Fault]) -> None:
    group = Group(replace(ASKED, on_failure=OnFailure.FAIL), faults=faults)
    outcome = group.run()
    assert outcome.kind is OutcomeKind.ABORT
    assert group.session.phase is Phase.ABORTED
    assert outcome.reason.startswith("rank")
    assert outcome.remedy


@pytest.mark.parametrize("faults", ENDS[:4])
def test_eager_goes_straight_to_eager(faults: list[Fault]) -> None:
    assert sealed(Group(replace(ASKED, on_failure=OnFailure.EAGER), faults=faults)) == "eager"


LOOPS = [
    pytest.param(CAPTURE, "crash", "sealed eager", 2, id="crashes in every capture end eager"),
    pytest.param(JOIN, "crash", "abort", 1, id="crashes at every start end it"),
    pytest.param(JOIN, "hang", "abort", 1, id="hangs at every start end it"),
    pytest.param(SEAL, "crash", "abort", 1, id="crashes at every seal end it"),
    pytest.param(SEAL, "wrong", "abort", 2, id="wrong numbers even in eager end it"),
]


@pytest.mark.parametrize(("phase", "error", "end", "replacements"), LOOPS)
def test_no_restart_loop(phase: Phase, error: str, end: str, replacements: int) -> None:
    group = Group(ASKED, faults=[Fault(0, phase, error) for _ in range(20)])
    outcome = group.run()
    eager = " eager" if outcome.plan is not None and outcome.kind is OutcomeKind.SEALED else ""
    assert f"{outcome.kind.value}{eager}" == end
    assert len(group.outcomes) - 1 == replacements


def test_the_last_replacement_starts_eager_and_nothing_comes_after_it() -> None:
    faults = [Fault(0, CAPTURE, "out_of_memory") for _ in range(3)]  # at the largest, every time
    group = Group(ASKED, faults=[*faults, Fault(0, SEAL, "crash")])
    assert group.run().kind is OutcomeKind.ABORT
    starts = [describe(outcome.plan) for outcome in group.outcomes[:-1] if outcome.plan]
    assert starts == ["aclgraph FULL_DECODE_ONLY at 1, 2, 4", "aclgraph FULL_DECODE_ONLY at 1, 2", "eager"]


def test_peers_that_hang_after_a_refusal_do_not_hide_its_reason() -> None:
    faults = [Fault(0, CAPTURE, "stream_exhausted", 4, recorded=False), Fault(1, CAPTURE, "hang", 4)]
    group = Group(ASKED, faults=faults)
    assert sealed(group) == "aclgraph FULL_DECODE_ONLY at 8"
    assert "stream exhausted" in group.outcomes[0].reason


def test_xlite_that_fails_goes_to_aclgraph_with_fresh_workers() -> None:
    asked = replace(ASKED, runtime=RuntimeName.XLITE)
    group = Group(asked, faults=[Fault(1, SEAL, "wrong")])
    assert sealed(group) == WHOLE
    assert [outcome.kind for outcome in group.outcomes] == [OutcomeKind.REPLACE, OutcomeKind.SEALED]


def test_workers_that_loaded_for_another_runtime_than_agreed_load_anew() -> None:
    asked = replace(ASKED, runtime=RuntimeName.XLITE)

    without = able(ASKED, loaded=RuntimeName.ACLGRAPH)
    # By incarnation and rank: only rank 0 had Xlite and loaded for it.
    proposals = iter([able(asked, loaded=RuntimeName.XLITE), without, without, without])
    group = Group(asked, prepare=lambda rank: (next(proposals), Device()))
    assert sealed(group) == WHOLE
    assert [outcome.kind for outcome in group.outcomes] == [OutcomeKind.REPLACE, OutcomeKind.SEALED]
    assert group.outcomes[0].reason == "the group agreed on aclgraph, and rank 0 loaded the model for xlite"


def test_a_rank_that_compiles_static_kernels_is_an_event_and_gets_no_answer() -> None:
    group = Group(ASKED)
    assert group.session.handle(Compiling(1, 0, "/tmp/kernels"), 0.0) == []
    event = group.session.events[-1]
    assert (event.kind, event.rank) == (EventKind.COMPILING, 1)
    assert "/tmp/kernels" in event.text
    assert sealed(group) == WHOLE


def test_different_fingerprints_end_it_naming_what_differs() -> None:
    group = Group(ASKED, prepare=lambda rank: (able(ASKED, fingerprint={"vllm": f"0.{rank}"}), Device()))
    outcome = group.run()
    assert outcome.kind is OutcomeKind.ABORT
    assert "vllm is 0.0 on rank 0 (node-0), 0.1 on rank 1 (node-0)" in outcome.reason


@pytest.mark.parametrize(
    ("sizes", "adjustments", "rules"),
    [
        pytest.param((8,), (), ["remembered-plan"], id="one size, and no reason"),
        pytest.param((8,), (STREAMS,), ["stream-budget"], id="one size, with its reason"),
        pytest.param(ASKED.capture_sizes, (), [], id="all that is asked for"),
    ],
)
def test_a_remembered_plan_that_is_narrower_says_so(
    sizes: tuple[int, ...], adjustments: tuple[Adjustment, ...], rules: list[str]
) -> None:
    remembered = replace(make_plan(ASKED, RuntimeName.ACLGRAPH, DECODE, sizes), adjustments=adjustments)
    group = Group(ASKED, remembered=remembered)
    sealed(group)
    assert group.session.plan is not None
    assert [adjustment.rule for adjustment in group.session.plan.adjustments] == rules


def test_a_remembered_plan_is_where_it_starts() -> None:
    remembered = make_plan(ASKED, RuntimeName.ACLGRAPH, DECODE, (2, 8), epoch=5)
    group = Group(ASKED, remembered=remembered, prepare=lambda rank: (able(ASKED), Device(quota=2)))
    assert sealed(group) == "aclgraph FULL_DECODE_ONLY at 2, 8"
    assert not [event for event in group.session.events if event.kind is EventKind.FAILED]


def test_pipeline_stages_with_different_costs_agree_on_what_fits_all() -> None:
    asked = replace(ASKED, mode=BOTH)
    costs = {0: 3, 1: 9}
    group = Group(
        asked,
        prepare=lambda rank: (able(asked), Device(quota=30, per_full=1, per_piecewise=costs[rank])),
    )
    assert len(sealed(group).partition(" at ")[2].split(", ")) == 3  # 3 x (9 + 1) on stage 1


class TestQuestions:
    """Late, repeated and out-of-epoch questions are answered with the current state."""

    def setup_method(self) -> None:
        self.session = Session(2, ASKED, DEADLINES)

    def ask(self, message: object, now: float = 1.0) -> list[VerdictKind]:
        answers = self.session.handle(message, now)  # type: ignore[arg-type]
        return [answer.verdict.kind for answer in answers]

    def agreed(self) -> int:
        for rank in (0, 1):
            self.ask(Join(rank, 0, "node"))
        for rank in (0, 1):
            self.ask(Propose(rank, 0, able(ASKED)))
        return self.session.epoch

    def at_first_key(self) -> Arrive:
        self.agreed()
        assert self.session.key is not None
        return Arrive(0, 0, self.session.epoch, self.session.key)

    def test_a_repeated_join_waits_and_each_copy_is_answered(self) -> None:
        assert self.ask(Join(0, 0, "node")) == []
        assert self.ask(Join(0, 0, "node")) == []
        assert self.ask(Join(1, 0, "node")) == [VerdictKind.PROPOSE] * 3

    def test_a_late_join_and_a_late_proposal_get_the_current_state(self) -> None:
        self.agreed()
        assert self.ask(Join(0, 0, "node")) == [VerdictKind.PROPOSE]
        assert self.ask(Propose(0, 0, able(ASKED))) == [VerdictKind.PLAN]

    def test_nobody_is_let_into_a_warm_up_alone(self) -> None:
        arrive = self.at_first_key()
        assert self.ask(arrive) == []
        assert self.ask(arrive) == []
        assert self.ask(replace(arrive, rank=1)) == [VerdictKind.GO] * 3

    def test_a_repeated_arrival_is_let_in_while_the_others_are_inside(self) -> None:
        arrive = self.at_first_key()
        self.ask(arrive)
        self.ask(replace(arrive, rank=1))
        assert self.ask(arrive) == [VerdictKind.GO]

    def test_questions_about_a_committed_graph_say_so(self) -> None:
        arrive = self.at_first_key()
        leave = Leave(0, 0, arrive.epoch, arrive.key, CaptureResult(True))
        for message in (arrive, replace(arrive, rank=1), leave):
            self.ask(message)
        assert self.ask(replace(leave, rank=1)) == [VerdictKind.COMMIT] * 2
        assert self.ask(leave) == [VerdictKind.COMMIT]
        assert self.ask(arrive) == [VerdictKind.COMMIT]

    def test_an_older_epoch_gets_the_plan(self) -> None:
        arrive = self.at_first_key()
        assert self.ask(replace(arrive, epoch=0)) == [VerdictKind.PLAN]
        assert self.ask(Seal(0, 0, 0, "digest")) == [VerdictKind.PLAN]

    def test_an_older_incarnation_is_told_to_end(self) -> None:
        self.agreed()
        self.ask(Lost(0, 0, KILLED))
        assert self.session.state is State.REPLACING
        assert self.ask(Join(1, 0, "node")) == [VerdictKind.REPLACE]
        assert self.ask(Join(0, 1, "node")) == []
        assert self.ask(Arrive(1, 0, 1, make_plan(ASKED, RuntimeName.ACLGRAPH, DECODE, (8,)).keys[0])) == [
            VerdictKind.REPLACE
        ]

    def test_the_dead_of_an_ended_incarnation_change_nothing(self) -> None:
        self.agreed()
        self.ask(Lost(0, 0, KILLED))
        outcome = self.session.outcome
        assert self.ask(Lost(1, 0, KILLED)) == []
        assert self.session.outcome is outcome

    def test_a_fresh_worker_that_dies_before_anyone_joined_counts(self) -> None:
        self.agreed()
        self.ask(Lost(0, 0, KILLED))
        self.ask(Lost(0, 1, KILLED))
        assert self.session.outcome is not None
        assert (self.session.outcome.kind, self.session.outcome.incarnation) == (OutcomeKind.ABORT, 1)

    def test_a_fresh_worker_that_fails_before_anyone_joined_counts(self) -> None:
        self.agreed()
        self.ask(Lost(0, 0, KILLED))
        assert self.ask(Failed(0, 1, JOIN, "RuntimeError", "no such file")) == [VerdictKind.ABORT]

    def test_a_process_that_never_joined_is_told_to_end(self) -> None:
        assert self.ask(Propose(0, 0, able(ASKED))) == [VerdictKind.REPLACE]
        assert self.session.outcome is None

    def test_different_digests_never_serve(self) -> None:
        session = Session(2, replace(ASKED, capture_sizes=()), DEADLINES)
        self.session = session
        epoch = self.agreed()
        assert self.ask(Seal(0, 0, epoch, "a")) == []
        assert self.ask(Seal(1, 0, epoch, "b")) == [VerdictKind.REPLACE] * 2

    def test_a_rank_that_is_out_of_step_never_serves(self) -> None:
        arrive = self.at_first_key()
        assert self.session.plan is not None
        self.ask(arrive)
        verdicts = self.ask(Arrive(1, 0, arrive.epoch, self.session.plan.keys[1]))
        assert verdicts == [VerdictKind.REPLACE] * 2
        assert self.session.outcome is not None
        assert "rank 1 (node) in warmup of FULL/8: mismatch: unexpected Arrive at FULL/4" in self.session.outcome.reason

    def test_after_the_end_everybody_is_told(self) -> None:
        self.session = Session(2, replace(ASKED, on_failure=OnFailure.FAIL), DEADLINES)
        self.agreed()
        self.ask(Lost(0, 0, KILLED))
        assert self.ask(Join(1, 0, "node")) == [VerdictKind.ABORT]
        assert self.ask(Join(1, 1, "node")) == [VerdictKind.ABORT]

    def test_an_unknown_rank_is_an_error_of_the_caller(self) -> None:
        with pytest.raises(ValueError, match="rank 2 does not exist: the capture group has ranks 0 to 1"):
            self.session.handle(Join(2, 0, "node"), 1.0)


class TestClock:
    def test_a_new_session_is_due_at_once_and_starts_its_clock_then(self) -> None:
        session = Session(2, ASKED, DEADLINES)
        assert session.next_deadline == -math.inf
        assert session.tick(1000.0) == []
        assert session.next_deadline == 1600.0

    def test_nothing_happens_before_the_deadline(self) -> None:
        session = Session(2, ASKED, DEADLINES)
        session.handle(Join(0, 0, "node"), 0.0)
        assert session.tick(599.9) == []
        assert [answer.verdict.kind for answer in session.tick(600.0)] == [VerdictKind.REPLACE]
        assert session.outcome is not None
        assert session.outcome.reason == "rank 1 in join: deadline: no answer within 600 s"

    def test_a_sealed_session_waits_for_nothing(self) -> None:
        group = Group(ASKED)
        group.run()
        assert group.session.next_deadline is None
        assert group.session.tick(1e9) == []

    def test_replacements_that_never_come_end_it(self) -> None:
        session = Session(1, ASKED, DEADLINES)
        session.tick(0.0)
        session.tick(600.0)
        session.tick(1200.0)
        assert session.outcome is not None
        assert (session.outcome.kind, session.outcome.incarnation) == (OutcomeKind.ABORT, 1)
