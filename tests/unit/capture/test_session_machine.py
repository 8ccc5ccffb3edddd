"""The session under any order, loss, repetition and delay of messages, any failures and losses of ranks."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ascend_serve.capture.messages import (
    Arrive,
    CaptureResult,
    Failed,
    Leave,
    Lost,
    Phase,
    Question,
    Verdict,
    VerdictKind,
)
from ascend_serve.capture.outcome import Delivery, OutcomeKind
from ascend_serve.capture.replacement import MAX_REPLACEMENTS
from ascend_serve.capture.session import Session
from ascend_serve.capture.snapshot import SnapshotFold
from ascend_serve.capture.state import State
from ascend_serve.events import EVENT
from ascend_serve.graph.death import death_by_signal
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.ladder import MODES_UPWARDS, rung
from ascend_serve.graph.modes import GraphMode, OnFailure, RuntimeName
from ascend_serve.graph.plan import CapturePlan, GraphRequest
from tests.unit.capture.simulated import DEADLINES, ERRORS, Device, Rank, able

SIZES = (1, 2, 4, 8, 16, 32)  # 12 keys in FULL_AND_PIECEWISE
MAX_EPOCHS = 2 * len(SIZES) + 3 * (MAX_REPLACEMENTS + 1)
Meeting = tuple[int, int, GraphKey]


class SessionMachine(RuleBasedStateMachine):
    """The network and the executor, played by hypothesis."""

    @initialize(
        ranks=st.integers(1, 8),
        mode=st.sampled_from(MODES_UPWARDS),
        runtime=st.sampled_from([RuntimeName.ACLGRAPH, RuntimeName.ACLGRAPH, RuntimeName.XLITE]),
        on_failure=st.sampled_from([OnFailure.DEGRADE, OnFailure.DEGRADE, OnFailure.EAGER, OnFailure.FAIL]),
        quotas=st.lists(st.one_of(st.none(), st.integers(0, 14)), min_size=8, max_size=8),
    )
    def start(
        self, ranks: int, mode: GraphMode, runtime: RuntimeName, on_failure: OnFailure, quotas: list[int | None]
    ) -> None:
        self.request = GraphRequest(runtime, mode, SIZES, on_failure, max_num_seqs=32)
        self.quotas = quotas
        self.ranks = ranks
        self.now = 0.0
        self.session = Session(ranks, self.request, DEADLINES)
        self.told = SnapshotFold()
        self.sent: list[Question] = []
        self.handed_in: dict[int, Question] = {}
        self.plans: list[CapturePlan] = []
        self.outcomes: dict[int, OutcomeKind] = {}
        self.arrived: dict[Meeting, set[int]] = defaultdict(set)
        self.fresh_workers(0)

    def fresh_workers(self, incarnation: int) -> None:
        self.members = [
            Rank(rank, incarnation, able(self.request), Device(self.quotas[rank], tells=rank % 2 == 0))
            for rank in range(self.ranks)
        ]
        self.pending: dict[int, Question] = {}
        self.mail: dict[int, list[tuple[Question, Verdict]]] = defaultdict(list)
        self.dead: set[int] = set()
        self.stuck: set[int] = set()

    # What can happen.

    @rule(rank=st.integers(0, 7), lost=st.booleans(), fate=st.integers(0, 39), data=st.data())
    def speak(self, rank: int, lost: bool, fate: int, data: st.DataObject) -> None:
        """A rank asks its next question; the message may be lost. Now and then it has failed before."""
        member = self.members[rank % self.ranks]
        if not self.can_speak(member):
            return
        question = self.next_question(member, data) if fate < 3 else member.question()
        self.pending[member.rank] = question
        if not lost:
            self.deliver(question)

    @rule(rank=st.integers(0, 7))
    def everybody_goes_on(self, rank: int) -> None:
        """Long runs without trouble, so that deep states are reached."""
        for _ in range(6):
            for member in self.members[rank % self.ranks :] + self.members[: rank % self.ranks]:
                self.hear(member.rank)
                self.repeat(member.rank)
                if self.can_speak(member):
                    self.pending[member.rank] = member.question()
                    self.deliver(self.pending[member.rank])

    @rule(rank=st.integers(0, 7))
    def repeat(self, rank: int) -> None:
        """A rank that has heard nothing asks again."""
        rank %= self.ranks
        if rank in self.pending and not self.mail[rank] and rank not in self.dead:
            self.deliver(self.pending[rank])

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def echo(self, data: st.DataObject) -> None:
        """A copy of any message comes late, from any incarnation and epoch."""
        self.deliver(data.draw(st.sampled_from(self.sent)))

    @rule(rank=st.integers(0, 7))
    def hear(self, rank: int) -> None:
        """A verdict reaches its rank; a verdict on an older question is of no use to it."""
        rank %= self.ranks
        for question, verdict in self.mail.pop(rank, []):
            if rank not in self.dead and self.pending.get(rank) == question:
                del self.pending[rank]
                self.members[rank].hear(verdict)

    @rule(rank=st.integers(0, 7))
    def verdicts_are_lost(self, rank: int) -> None:
        self.mail.pop(rank % self.ranks, None)

    @rule(
        rank=st.integers(0, 7),
        back=st.integers(0, 1),
        often=st.integers(0, 9),
        signal=st.sampled_from(["SIGKILL", "SIGILL", "SIGBUS"]),
        final=st.sampled_from([False, False, False, True]),
    )
    def die(self, rank: int, back: int, often: int, signal: str, final: bool) -> None:
        """A worker dies, or the news of an older one's death comes late."""
        if often:
            return
        rank %= self.ranks
        incarnation = self.members[rank].incarnation - back
        if not back:
            self.dead.add(rank)
        self.take(self.session.handle(Lost(rank, incarnation, death_by_signal(signal), "node", final), self.tock()))

    @rule(share=st.sampled_from([0.1, 0.1, 0.5, 1.0]))
    def time_passes(self, share: float) -> None:
        due = self.session.next_deadline
        if due is not None:
            self.now = max(self.now, self.now + share * (due - self.now) if due > self.now else self.now)
        self.take(self.session.tick(self.now))

    @precondition(lambda self: self.ended is OutcomeKind.REPLACE)
    @rule()
    def replace_workers(self) -> None:
        self.fresh_workers(self.members[0].incarnation + 1)

    # How it is carried out.

    @property
    def ended(self) -> OutcomeKind | None:
        """How the incarnation of the members has ended, if it has."""
        return self.outcomes.get(self.members[0].incarnation)

    @property
    def place(self) -> tuple[State, int, int, GraphKey | None]:
        """Where the group is; it goes on from there, or time does."""
        return self.session.state, self.session.incarnation, self.session.epoch, self.session.key

    def tock(self) -> float:
        self.now += 0.001
        return self.now

    def can_speak(self, member: Rank) -> bool:
        idle = member.rank not in self.pending and member.ended is None
        return idle and member.rank not in self.dead | self.stuck

    def next_question(self, member: Rank, data: st.DataObject) -> Question:
        """A question of a rank to which something happened."""
        error = data.draw(st.sampled_from(sorted(ERRORS)))
        if member.phase is Phase.CAPTURE:
            phase = data.draw(st.sampled_from([Phase.WARMUP, Phase.CAPTURE]))
            recorded = phase is Phase.CAPTURE and data.draw(st.booleans())
            if phase is Phase.WARMUP:
                self.stuck |= {peer.rank for peer in self.members if peer is not member and peer.phase is Phase.CAPTURE}
            return member.question(
                CaptureResult(False, 0.1, None, None, phase, "RuntimeError", ERRORS[error], recorded)
            )
        if member.phase is Phase.SEAL and data.draw(st.booleans()):
            return member.question(canary_ok=False)
        return Failed(member.rank, member.incarnation, member.phase, "RuntimeError", ERRORS[error])

    def deliver(self, question: Question) -> None:
        copy = type(question)(**{name: getattr(question, name) for name in question.__dataclass_fields__})
        self.sent.append(question)
        self.handed_in[id(copy)] = copy
        if isinstance(question, Arrive):
            self.arrived[question.incarnation, question.epoch, question.key].add(question.rank)
        self.take(self.session.handle(copy, self.tock()))

    def take(self, answers: list[Delivery]) -> None:
        for answer in answers:
            question = self.handed_in.pop(id(answer.question))  # KeyError: answered twice
            assert (answer.rank, answer.incarnation) == (question.rank, question.incarnation)
            if answer.verdict.kind is VerdictKind.GO:
                assert isinstance(question, Arrive)
                everybody = self.arrived[question.incarnation, question.epoch, question.key]
                assert everybody == set(range(self.ranks)), "let into a warm-up alone"
            if answer.incarnation == self.members[answer.rank].incarnation:
                self.mail[answer.rank].append((question, answer.verdict))
        if self.session.outcome is not None:
            self.outcomes[self.session.outcome.incarnation] = self.session.outcome.kind
        plan = self.session.plan
        if plan is not None and (not self.plans or self.plans[-1] is not plan):
            self.plans.append(plan)

    # What always holds.

    @invariant()
    def plans_never_go_up(self) -> None:
        rungs = [rung(plan) for plan in self.plans]
        assert rungs == sorted(rungs, reverse=True)
        epochs = [plan.epoch for plan in self.plans]
        assert epochs == sorted(set(epochs))

    @invariant()
    def it_is_bounded(self) -> None:
        assert self.session.incarnation <= MAX_REPLACEMENTS
        assert self.session.epoch <= MAX_EPOCHS

    @invariant()
    def only_a_meeting_keeps_a_question_waiting(self) -> None:
        if self.session.state in (State.SEALED, State.REPLACING, State.ABORTED):
            assert not self.handed_in
        assert all(question.incarnation == self.session.incarnation for question in self.handed_in.values())
        if self.handed_in:
            assert self.session.next_deadline is not None

    @invariant()
    def sealed_ranks_hold_the_same(self) -> None:
        sealed = [member for member in self.members if member.ended is VerdictKind.SEALED]
        for member in sealed:
            assert member.plan is not None
            assert member.held == set(member.plan.keys) == sealed[0].held
            assert not any(isinstance(question, Leave) for question in self.pending.values())

    @invariant()
    def events_tell_all(self) -> None:
        """Whoever hears the events alone knows where the group is."""
        for event in self.session.events:
            self.told.add(EVENT.validate_json(event.model_dump_json()))
        self.session.events.clear()
        assert self.told.incarnation <= self.session.incarnation
        if self.told.incarnation < self.session.incarnation or not self.told.roster.members:
            return
        assert self.told.outcome == self.session.outcome
        assert self.told.phase is self.session.phase
        if self.session.state is not State.REPLACING:
            assert self.told.plan == self.session.plan
            assert tuple(self.told.held) == tuple(key.label for key in self.session.walk.kept)

    def teardown(self) -> None:
        """From any state, without further faults: it ends, and every live rank has its verdict."""
        if not hasattr(self, "session"):
            return
        for _ in range(1_000):
            if self.ended is OutcomeKind.REPLACE:
                self.replace_workers()
            if self.ended in (OutcomeKind.SEALED, OutcomeKind.ABORT):
                break
            before = self.place
            self.everybody_goes_on(0)
            # Ranks that ask again and again while word of a death is waited for are no progress either.
            if self.place == before:
                self.time_passes(1.0)
        assert self.ended in (OutcomeKind.SEALED, OutcomeKind.ABORT)
        assert not self.handed_in
        for rank in 2 * list(range(self.ranks)):  # what is heard first may be late
            self.repeat(rank)
            self.hear(rank)
        assert not set(self.pending) - self.dead
        self.plans_never_go_up()
        self.it_is_bounded()
        self.sealed_ranks_hold_the_same()


SessionMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSession = SessionMachine.TestCase
