"""The session: the driver's side of the protocol as a state machine without I/O.

Messages and the time go in, answers come out. The shell around it calls :meth:`Session.handle` for every message and
:meth:`Session.tick` when :attr:`Session.next_deadline` has come, and hands each answer to whoever asked its question.
A session that has not seen a message or a tick yet is due at once: the first call starts its clock.

Every question gets exactly one answer: at once when it is late, repeated or out of its epoch, otherwise when all ranks are
there or the session has decided without them. The time of one message does not grow with the number of ranks, but for
the last one at a meeting point, which answers all.

How it goes on after a failure:

- refused before anything was recorded: in place. The meeting is waited for, so that all refusals teach the budget; then
  all ranks get the next plan, with the graphs that stay.
- recorded, in a warm-up of more than one rank (peers are inside a collective that it will never join), device fault,
  hang, loss, wrong numbers: at once, without waiting for anybody, ``REPLACE`` for all. The session then waits for the
  next incarnation, whose agreement cannot exceed the plan that the ladder went down to.
- nothing lower is left or allowed, or the replacements are used up: ``ABORT``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

from ascend_serve.capture.deadlines import Deadlines
from ascend_serve.capture.ledger import StreamLedger
from ascend_serve.capture.messages import (
    Arrive,
    Failed,
    Join,
    Leave,
    Lost,
    Message,
    Phase,
    Propose,
    Question,
    Seal,
    Verdict,
    VerdictKind,
)
from ascend_serve.capture.outcome import Answer, EventKind, Outcome, OutcomeKind, SessionEvent
from ascend_serve.capture.replacement import Replacements
from ascend_serve.errors import AgreementError
from ascend_serve.graph.agreement import agree, common_sizes, rank_ranges
from ascend_serve.graph.failure import Failure, FailureKind, Step, classify, first_error
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.ladder import describe, step_down
from ascend_serve.graph.modes import RuntimeName
from ascend_serve.graph.plan import CapturePlan, GraphRequest, Proposal

__all__ = ["Answer", "EventKind", "Outcome", "OutcomeKind", "Session", "SessionEvent", "State"]


class State(StrEnum):
    """What the session waits for."""

    JOIN = "join"
    PROPOSE = "propose"
    ARRIVE = "arrive"
    LEAVE = "leave"
    SEAL = "seal"
    SEALED = "sealed"
    REPLACING = "replacing"
    ABORTED = "aborted"


_PHASES = {
    State.JOIN: Phase.JOIN,
    State.PROPOSE: Phase.PROPOSE,
    State.ARRIVE: Phase.WARMUP,
    State.LEAVE: Phase.CAPTURE,
    State.SEAL: Phase.SEAL,
    State.SEALED: Phase.SERVE,
    State.REPLACING: Phase.JOIN,
    State.ABORTED: Phase.SERVE,
}


class Session:
    """One capture group from the first join to the seal, over all its incarnations.

    Args:
        ranks: Number of ranks over DP x PP x TP; they are numbered from 0.
        request: What the configuration asks for.
        deadlines: How long each meeting point may take.
        remembered: The plan that worked before, still valid for this fingerprint: the agreement starts below it.
        incarnation: The number of the first incarnation.
    """

    def __init__(
        self,
        ranks: int,
        request: GraphRequest,
        deadlines: Deadlines,
        *,
        remembered: CapturePlan | None = None,
        incarnation: int = 0,
    ) -> None:
        self.ranks = ranks
        self.request = request
        self.deadlines = deadlines
        self.incarnation = incarnation
        self.epoch = 0
        self.events: list[SessionEvent] = []
        self.outcome: Outcome | None = None
        self._now = 0.0
        self._ceiling = remembered
        self._ledger = StreamLedger(ranks)
        self._replacements = Replacements(request.on_failure)
        self._answers: list[Answer] = []
        self._due: float | None = -math.inf
        self._start_incarnation(incarnation)

    def _start_incarnation(self, incarnation: int) -> None:
        self.incarnation = incarnation
        self.outcome = None
        self.state = State.JOIN
        self.nodes: dict[int, str] = {}
        self.proposals: dict[int, Proposal] = {}
        self._plan: CapturePlan | None = None
        self._committed: dict[GraphKey, None] = {}
        self._waiting: dict[int, list[Question]] = {}
        self._forget_meeting()

    @property
    def plan(self) -> CapturePlan | None:
        """The plan that this incarnation agreed on, or ``None`` before it did."""
        return self._plan

    @property
    def phase(self) -> Phase:
        """The phase of the start-up that the group is in."""
        return _PHASES[self.state]

    @property
    def key(self) -> GraphKey | None:
        """The graph that the group stands at, if it is capturing."""
        return self._todo[-1] if self._plan is not None and self._todo else None

    @property
    def kept(self) -> tuple[GraphKey, ...]:
        """Graphs that every rank holds."""
        return tuple(self._committed)

    @property
    def next_deadline(self) -> float | None:
        """When :meth:`tick` is due, on the caller's clock; ``None`` when nothing is waited for."""
        return self._due

    def handle(self, message: Message, now: float) -> list[Answer]:
        """Take one message in.

        Args:
            message: From a rank, or of a lost one.
            now: Seconds on any clock that never goes back.

        Returns:
            The verdicts that can be given now, not only to this rank.

        Raises:
            ValueError: There is no such rank.
        """
        if not 0 <= message.rank < self.ranks:
            raise ValueError(f"rank {message.rank} does not exist: the capture group has ranks 0 to {self.ranks - 1}")
        self._start_clock(now)
        if isinstance(message, Lost):
            self._lose(message)
        elif (verdict := self._settled(message)) is not None:
            self._answer(message, verdict)
        else:
            self._take(message)
        return self._give()

    def tick(self, now: float) -> list[Answer]:
        """Let the time go on: a deadline that has passed is a failure of the ranks that are missing."""
        self._start_clock(now)
        if self._due is not None and now >= self._due:
            self._deadline_passed()
        return self._give()

    def _start_clock(self, now: float) -> None:
        self._now = now
        if self._due == -math.inf:
            self._due = now + self.deadlines.join

    def _give(self) -> list[Answer]:
        answers, self._answers = self._answers, []
        return answers

    # What is settled whatever the other ranks do.

    def _settled(self, question: Question) -> Verdict | None:
        """The verdict on a question that the session is already past, or ``None``."""
        if self.state is State.ABORTED:
            return self._end_verdict(VerdictKind.ABORT)
        if (
            self.state is State.REPLACING
            and question.incarnation == self.incarnation + 1
            and isinstance(question, Join)
        ):
            self._start_incarnation(question.incarnation)
            return None
        if question.incarnation != self.incarnation or self.state is State.REPLACING:
            return self._end_verdict(VerdictKind.REPLACE)
        if isinstance(question, Failed):
            return None
        if self.state is State.SEALED:
            return Verdict(VerdictKind.SEALED, self.epoch, self._plan)
        if isinstance(question, Join):
            return None if self.state is State.JOIN else Verdict(VerdictKind.PROPOSE, self.epoch)
        if self.state is State.JOIN:
            return Verdict(VerdictKind.REPLACE, self.epoch, self._ceiling, reason="this process has not joined")
        if self._plan is None:
            return None
        if isinstance(question, Propose) or question.epoch < self.epoch:
            return self._plan_verdict()
        if isinstance(question, Arrive | Leave) and question.key in self._committed:
            return Verdict(VerdictKind.COMMIT, self.epoch)
        if isinstance(question, Arrive) and question.key == self.key and self.state is State.LEAVE:
            return Verdict(VerdictKind.GO, self.epoch)
        return None

    def _end_verdict(self, kind: VerdictKind) -> Verdict:
        if self.outcome is None:
            reason = f"incarnation {self.incarnation} has taken over"
            return Verdict(kind, self.epoch, self._plan or self._ceiling, reason=reason)
        return Verdict(kind, self.epoch, self.outcome.plan, reason=self.outcome.reason, remedy=self.outcome.remedy)

    def _plan_verdict(self) -> Verdict:
        return Verdict(VerdictKind.PLAN, self.epoch, self._plan, kept=self.kept)

    # Meeting points.

    def _take(self, question: Question) -> None:
        match question:
            case Join():
                self._join(question)
            case Failed():
                self._failed(question)
            case Propose() if self.state is State.PROPOSE:
                self._propose(question)
            case Arrive() if self.state is State.ARRIVE and question.key == self.key:
                self._meet(question, State.ARRIVE)
            case Leave() if self.state is State.LEAVE and question.key == self.key:
                self._leave(question)
            case Seal() if self.state is State.SEAL:
                self._seal(question)
            case _:
                self._out_of_step(question)

    def _join(self, question: Join) -> None:
        if question.rank not in self.nodes:
            self.nodes[question.rank] = question.node
            self._log(EventKind.JOINED, f"on {question.node}, process {question.pid}", rank=question.rank)
        self._meet(question, State.JOIN)

    def _propose(self, question: Propose) -> None:
        if question.rank not in self.proposals:
            self.proposals[question.rank] = question.proposal
            self._ledger.propose(question.rank, question.proposal)
        self._meet(question, State.PROPOSE)

    def _leave(self, question: Leave) -> None:
        if question.rank not in self._waiting:
            if question.result.ok:
                self._note_captured(question)
            elif self._note_refused(question):
                return
        self._meet(question, State.LEAVE)

    def _note_captured(self, question: Leave) -> None:
        self._ledger.captured(question.rank, question.key, question.result)
        seconds = question.result.seconds
        self._log(EventKind.CAPTURED, "", rank=question.rank, key=question.key, seconds=seconds)

    def _note_refused(self, question: Leave) -> bool:
        """Note a failed graph; whether it ended the incarnation."""
        result = question.result
        phase = result.phase or Phase.CAPTURE
        failure = Failure(
            classify(result.error_type, result.error_text),
            f"{self._who((question.rank,))} in {phase.value} of {question.key.label}",
            f"{result.error_type}: {first_error(result.error_text)}",
            question.key,
            recorded=result.recorded or (phase is Phase.WARMUP and self.ranks > 1),
        )
        self._log(EventKind.FAILED, failure.reason, rank=question.rank, key=question.key)
        self._failures.append(failure)
        if failure.kind is FailureKind.STREAM_EXHAUSTED:
            self._refusals[question.rank] = (question.key, result.streams_left)
        if failure.needs_fresh_process:
            self._wait(question)
            self._replace(failure)
        return failure.needs_fresh_process

    def _seal(self, question: Seal) -> None:
        if not question.canary_ok:
            self._wait(question)
            where = f"{self._who((question.rank,))} in {Phase.SEAL.value}"
            self._fail_all(Failure(FailureKind.WRONG_NUMBERS, where, "the canary's logits changed"), question.rank)
            return
        self._digests.setdefault(question.digest, question.rank)
        self._meet(question, State.SEAL)

    def _meet(self, question: Question, state: State) -> None:
        self._wait(question)
        if len(self._waiting) == self.ranks:
            _COMPLETE[state](self)

    def _wait(self, question: Question) -> None:
        self._waiting.setdefault(question.rank, []).append(question)

    def _all_joined(self) -> None:
        self._move(State.PROPOSE, Verdict(VerdictKind.PROPOSE, self.epoch), self.deadlines.propose)

    def _all_proposed(self) -> None:
        proposals = [self.proposals[rank] for rank in range(self.ranks)]
        nodes = [self.nodes[rank] for rank in range(self.ranks)]
        try:
            plan = agree(
                self.request,
                proposals,
                epoch=self.epoch + 1,
                ceiling=self._ceiling,
                budgets=self._ledger.budgets,
                nodes=nodes,
            )
        except AgreementError as error:
            self._abort(error.problem, error.remedy)
            return
        self._candidates = common_sizes(self.request, proposals)
        self._log(EventKind.AGREED, describe(plan))
        self._apply(plan)

    def _all_arrived(self) -> None:
        self._move(State.LEAVE, Verdict(VerdictKind.GO, self.epoch), self.deadlines.capture)

    def _all_left(self) -> None:
        if self._failures:
            self._fall_back(max(self._failures, key=_severity))
            return
        key = self._todo.pop()
        self._committed[key] = None
        self._log(EventKind.COMMITTED, "", key=key)
        self._walk_on(Verdict(VerdictKind.COMMIT, self.epoch))

    def _all_sealing(self) -> None:
        if len(self._digests) > 1:
            ranks = sorted(self._digests.values())
            where = f"{self._who(ranks)} in {Phase.SEAL.value}"
            self._fail_all(Failure(FailureKind.MISMATCH, where, "they hold different graphs"), None)
            return
        self.outcome = Outcome(OutcomeKind.SEALED, self.incarnation, self._plan)
        self._log(EventKind.SEALED, describe(self._plan) if self._plan else "")
        self._move(State.SEALED, Verdict(VerdictKind.SEALED, self.epoch, self._plan), None)

    def _apply(self, plan: CapturePlan) -> None:
        self._plan, self.epoch = plan, plan.epoch
        wanted = set(plan.keys)
        self._committed = {key: None for key in self._committed if key in wanted}
        self._todo = [key for key in reversed(plan.keys) if key not in self._committed]
        self._walk_on(self._plan_verdict())

    def _walk_on(self, verdict: Verdict) -> None:
        if self._todo:
            self._move(State.ARRIVE, verdict, self.deadlines.capture)
        else:
            self._move(State.SEAL, verdict, self.deadlines.seal)

    def _move(self, state: State, verdict: Verdict, seconds: float | None) -> None:
        """Answer all that wait, and wait for the next meeting."""
        self.state = state
        self._due = None if seconds is None else self._now + seconds
        for questions in self._waiting.values():
            for question in questions:
                self._answer(question, verdict)
        self._waiting = {}
        self._forget_meeting()

    def _forget_meeting(self) -> None:
        self._failures: list[Failure] = []
        self._refusals: dict[int, tuple[GraphKey, int | None]] = {}
        self._digests: dict[str, int] = {}

    def _answer(self, question: Question, verdict: Verdict) -> None:
        self._answers.append(Answer(question.rank, question.incarnation, verdict, question))

    # Failures.

    def _lose(self, message: Lost) -> None:
        if self.state is State.REPLACING and message.incarnation == self.incarnation + 1:
            self._start_incarnation(message.incarnation)
        if message.incarnation == self.incarnation and self.state not in (State.REPLACING, State.ABORTED):
            where = f"{self._who((message.rank,))} in {self._standing()}"
            self._fail_all(Failure(FailureKind.LOST, where, message.reason), message.rank)

    def _failed(self, question: Failed) -> None:
        self._wait(question)
        kind = classify(question.error_type, question.error_text)
        where = f"{self._who((question.rank,))} in {question.phase.value}"
        error = f"{question.error_type}: {first_error(question.error_text)}"
        self._fail_all(Failure(kind, where, error, recorded=True), question.rank)

    def _out_of_step(self, question: Question) -> None:
        self._wait(question)
        where = f"{self._who((question.rank,))} in {self._standing()}"
        asked = type(question).__name__.lower()
        key = f" at {question.key.label}" if isinstance(question, Arrive | Leave) else ""
        self._fail_all(Failure(FailureKind.MISMATCH, where, f"unexpected {asked}{key}"), question.rank)

    def _deadline_passed(self) -> None:
        if self.state is State.REPLACING:
            self._start_incarnation(self.incarnation + 1)
        missing = [rank for rank in range(self.ranks) if rank not in self._waiting]
        failure = Failure(
            FailureKind.DEADLINE,
            f"{self._who(missing)} in {self._standing()}",
            "no answer in time",
        )
        self._log(EventKind.FAILED, failure.reason, key=self.key)
        # A peer that was refused before is why the others hang.
        self._replace(self._failures[0] if self._failures else failure)

    def _standing(self) -> str:
        return f"{self.phase.value} of {self.key.label}" if self.key is not None else self.phase.value

    def _who(self, ranks: Sequence[int]) -> str:
        nodes = list(dict.fromkeys(self.nodes[rank] for rank in ranks if rank in self.nodes))
        where = f" ({', '.join(nodes)})" if nodes else ""
        return f"rank{'s' if len(ranks) > 1 else ''} {rank_ranges(ranks)}{where}"

    def _fail_all(self, failure: Failure, rank: int | None) -> None:
        self._log(EventKind.FAILED, failure.reason, rank=rank, key=self.key)
        self._replace(failure)

    def _fall_back(self, failure: Failure) -> None:
        """Go down the ladder in place."""
        lower = self._step_down(failure)
        if lower is None:
            self._abort(failure.reason, failure.treatment.advice)
        elif lower.runtime not in (self._plan and self._plan.runtime, RuntimeName.EAGER):
            self._replace(failure)
        else:
            self._log(EventKind.REPLANNED, describe(lower))
            self._ledger.keep([key for key in lower.keys if key in self._committed])
            self._apply(lower)

    def _step_down(self, failure: Failure) -> CapturePlan | None:
        if self._plan is None:
            return None
        if self._refusals:
            self._ledger.learn(self._refusals)
        return step_down(self._plan, failure, self.request, self._candidates, self._ledger.budgets)

    def _replace(self, failure: Failure) -> None:
        """End this incarnation for all; fresh workers start from the plan that the ladder went down to."""
        if not self._replacements.allow():
            self._abort(failure.reason, failure.treatment.advice)
            return
        says_nothing = failure.treatment.step is Step.SAME and not self._replacements.retried
        lower = None if says_nothing else self._step_down(failure)
        try:
            self._ceiling = self._replacements.start(self._plan or self._ceiling, lower, failure)
        except LookupError:
            self._abort(failure.reason, failure.treatment.advice)
            return
        reason, remedy = failure.reason, failure.treatment.advice
        self.outcome = Outcome(OutcomeKind.REPLACE, self.incarnation, self._ceiling, reason, remedy)
        self.epoch = max(self.epoch, self._ceiling.epoch if self._ceiling else 0)
        self._log(EventKind.REPLACED, reason)
        self._move(State.REPLACING, self._end_verdict(VerdictKind.REPLACE), self.deadlines.join)

    def _abort(self, reason: str, remedy: str) -> None:
        self.outcome = Outcome(OutcomeKind.ABORT, self.incarnation, self._plan, reason, remedy)
        self._log(EventKind.ABORTED, reason)
        self._move(State.ABORTED, self._end_verdict(VerdictKind.ABORT), None)

    def _log(
        self,
        kind: EventKind,
        text: str,
        *,
        rank: int | None = None,
        key: GraphKey | None = None,
        seconds: float | None = None,
    ) -> None:
        self.events.append(SessionEvent(self._now, kind, self.incarnation, text, rank, key, seconds))


def _severity(failure: Failure) -> Step:
    return failure.treatment.step


_COMPLETE = {
    State.JOIN: Session._all_joined,
    State.PROPOSE: Session._all_proposed,
    State.ARRIVE: Session._all_arrived,
    State.LEAVE: Session._all_left,
    State.SEAL: Session._all_sealing,
}
