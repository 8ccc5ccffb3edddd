"""The session: the driver's side of the protocol as a state machine without I/O.

Messages and the time go in, answers come out. The shell around it calls :meth:`Session.handle` for every message and
:meth:`Session.tick` when :attr:`Session.next_deadline` has come, and hands each answer to whoever asked its question.
A session that has seen neither a message nor a tick is due at once: the first call starts its clock.

Every question gets exactly one answer: at once when it is late, repeated or out of its epoch, otherwise when all ranks
are there or the session has decided without them. The time of one message does not grow with the number of ranks, but
for the last one at a meeting point, which answers all.

How it goes on after a failure:

- refused before anything was recorded: in place. The meeting is waited for, so that all refusals teach the budget; then
  all ranks get the next plan, with the graphs that stay.
- recorded, in a warm-up of more than one rank (peers are inside a collective that it will never join), device fault,
  hang, loss, wrong numbers: at once, without waiting for anybody, ``REPLACE`` for all. The session then waits for the
  next incarnation, whose agreement cannot exceed the plan that the ladder went down to.
- a rank tells that another is gone: the executor's word of that death is waited for, ``DEATH_SECONDS`` at most.
- nothing lower is left or allowed, what happened would happen again, or the replacements are used up: ``ABORT``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ascend_serve import events
from ascend_serve.capture import causes, standing
from ascend_serve.capture.deadlines import Deadlines
from ascend_serve.capture.meeting import Meeting
from ascend_serve.capture.messages import (
    Arrive,
    Compiling,
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
from ascend_serve.capture.outcome import Delivery, IncarnationOutcome, OutcomeKind
from ascend_serve.capture.plan_sequence import PlanSequence
from ascend_serve.capture.state import State
from ascend_serve.capture.walk import Walk
from ascend_serve.errors import AgreementError
from ascend_serve.graph.failure import Failure, FailureKind
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.ladder import changes_runtime, describe, loaded_for_another
from ascend_serve.graph.plan import CapturePlan, GraphRequest, Proposal
from ascend_serve.graph.ranks import name_ranks

DEATH_SECONDS = 20.0
"""How long word of a death may take: Ray has to notice, and the log to be read on another node."""


class Session:
    """One capture group from the first join to the seal, over all its incarnations.

    Args:
        ranks: Number of ranks over DP x PP x TP; they are numbered from 0.
        request: What the configuration asks for.
        deadlines: How long each meeting point may take.
        remembered: The plan that worked before, still valid for this fingerprint: the agreement starts below it.
        incarnation: The number of the first incarnation.
        held: Graphs that its ranks hold from an earlier session.

    Attributes:
        incarnation: The incarnation that counts now.
        epoch: The latest plan's.
        state: What is waited for.
        outcome: How this incarnation ended, or ``None`` while it goes on.
        walk: How far the group is in its plan.
        meeting: Who waits at the meeting point.
        events: What happened, oldest first, for whoever takes it from here.
    """

    def __init__(
        self,
        ranks: int,
        request: GraphRequest,
        deadlines: Deadlines,
        *,
        remembered: CapturePlan | None = None,
        incarnation: int = 0,
        held: Sequence[GraphKey] = (),
    ) -> None:
        self._ranks = ranks
        self._deadlines = deadlines
        self._planning = PlanSequence(ranks, request, remembered)
        self._answers: list[Delivery] = []
        self._now = 0.0
        self._patience = deadlines.join
        self._due: float | None = -math.inf
        self.epoch = 0
        self.events: list[events.Event] = []
        self._begin(incarnation, held)

    def _begin(self, incarnation: int, held: Sequence[GraphKey] = ()) -> None:
        self.incarnation = incarnation
        self.outcome: IncarnationOutcome | None = None
        self.state = State.JOIN
        self._nodes: dict[int, str] = {}
        self._proposals: dict[int, Proposal] = {}
        self.walk = Walk(held)
        self.meeting = Meeting(self._ranks)

    @property
    def plan(self) -> CapturePlan | None:
        """The plan that this incarnation agreed on, or ``None`` before it did."""
        return self.walk.plan

    @property
    def ceiling(self) -> CapturePlan | None:
        """What the next agreement cannot exceed, or ``None`` when it may be anything."""
        return self._planning.ceiling

    @property
    def phase(self) -> Phase:
        """The phase of the start-up that the group is in."""
        return self.state.phase

    @property
    def key(self) -> GraphKey | None:
        """The graph that the group stands at, or ``None`` outside of the captures."""
        return self.walk.key

    @property
    def next_deadline(self) -> float | None:
        """When :meth:`tick` is due, on the caller's clock; ``None`` when nothing is waited for."""
        return self._due

    def handle(self, message: Message, now: float) -> list[Delivery]:
        """Take one message in.

        Args:
            message: From a rank, or of a lost one.
            now: Seconds on any clock that never goes back.

        Returns:
            The verdicts that can be given now, not only to this rank.

        Raises:
            ValueError: There is no such rank.
        """
        if not 0 <= message.rank < self._ranks:
            raise ValueError(f"rank {message.rank} does not exist: the capture group has ranks 0 to {self._ranks - 1}")
        self._start_clock(now)
        if standing.opens_next_incarnation(self, message):
            self._begin(message.incarnation)
        if isinstance(message, Lost):
            self._lose(message)
        elif isinstance(message, Compiling):
            text = f"static kernels compile in {message.directory}; this takes minutes to tens of minutes"
            self._tell(events.CompilingKernels, text, rank=message.rank, key=self.walk.label)
        else:
            self._ask(message)
        return self._give()

    def tick(self, now: float) -> list[Delivery]:
        """Let the time go on: when a deadline has passed, the ranks that are missing hang."""
        self._start_clock(now)
        if self._due is not None and now >= self._due:
            self._deadline_passed()
        return self._give()

    def _start_clock(self, now: float) -> None:
        self._now = now
        if self._due == -math.inf:
            self._due = now + self._patience

    def _give(self) -> list[Delivery]:
        answers, self._answers = self._answers, []
        return answers

    def _ask(self, question: Question) -> None:
        verdict = standing.ended_verdict(self, question) or standing.late_verdict(self, question)
        if verdict is not None:
            self._answer(question, verdict)
        elif isinstance(question, Failed):
            self.meeting.add(question)
            self._end(causes.failed_rank(question, self._who(question.rank)), question.rank)
        elif standing.is_expected(self, question):
            _TAKE[self.state](self, question)
        else:
            self.meeting.add(question)
            self._end(causes.out_of_step(question, self._where(question.rank)), question.rank)

    # Meeting points.

    def _join(self, question: Join) -> None:
        if question.rank not in self.meeting:
            self._nodes[question.rank] = question.node
            known = {"node": question.node, "pid": question.pid, "instruction_set": question.instruction_set}
            text = f"on {question.node}, process {question.pid}"
            self._tell(events.Joined, text, rank=question.rank, ranks=self._ranks, **known)
        if self._all_here(question):
            self._move(State.PROPOSE, Verdict(VerdictKind.PROPOSE, self.epoch), self._deadlines.propose)

    def _propose(self, question: Propose) -> None:
        if question.rank not in self.meeting:
            self._proposals[question.rank] = question.proposal
            self._planning.ledger.propose(question.rank, question.proposal)
            self._tell(events.Proposed, rank=question.rank, **standing.of_proposal(question.proposal))
        if self._all_here(question):
            self._agree()

    def _arrive(self, question: Arrive) -> None:
        if self._all_here(question):
            self._tell(events.Warming, key=question.key.label)
            self._move(State.LEAVE, Verdict(VerdictKind.GO, self.epoch), self._deadlines.capture)

    def _leave(self, question: Leave) -> None:
        repeated = question.rank in self.meeting
        here = self._all_here(question)
        failure = None if repeated else self._note(question)
        if failure is not None and failure.needs_fresh_process:
            self._replace(failure)
        elif here:
            self._settle_key()

    def _note(self, question: Leave) -> Failure | None:
        """Take note of how a graph went; the failure, if it was one."""
        rank, key, result = question.rank, question.key, question.result
        if result.ok:
            self._planning.ledger.captured(rank, key, result)
            known = {name: getattr(result, name) for name in ("seconds", "streams_used", "streams_left", "memory")}
            self._tell(events.Captured, rank=rank, key=key.label, **known)
            return None
        failure = causes.failed_capture(question, self._who(rank), self._ranks)
        self.meeting.failures.append(failure)
        if failure.kind is FailureKind.STREAM_EXHAUSTED:
            self.meeting.refusals[rank] = (key, result.streams_left)
        self._note_failure(failure, rank)
        return failure

    def _settle_key(self) -> None:
        if self.plan is not None and self.meeting.failures:
            self._fall_back(self.plan, self.meeting.gravest(self.meeting.failures[0]))
        else:
            self._tell(events.Committed, key=self.walk.commit().label)
            self._walk_on(Verdict(VerdictKind.COMMIT, self.epoch))

    def _seal(self, question: Seal) -> None:
        here = self._all_here(question)
        digests = self.meeting.digests
        digests.setdefault(question.digest, question.rank)
        if not question.canary_ok:
            self._end(causes.changed_numbers(self._who(question.rank)), question.rank)
        elif here and len(digests) > 1:
            self._end(causes.different_graphs(self._who(*sorted(digests.values()))), None)
        elif here:
            self.outcome = IncarnationOutcome(OutcomeKind.SEALED, self.incarnation, self.plan)
            self._tell(events.Sealed, describe(self.plan) if self.plan else "", plan=self.plan)
            self._move(State.SEALED, Verdict(VerdictKind.SEALED, self.epoch, self.plan), None)

    def _all_here(self, question: Question) -> bool:
        self.meeting.add(question)
        return self.meeting.complete

    def _agree(self) -> None:
        try:
            plan = self._planning.agree(self._proposals, self._nodes, self.epoch + 1)
            self._tell(events.Agreed, describe(plan), plan=plan)
            reason = loaded_for_another(plan, self._proposals)
            if reason:
                self._planning.load_anew(plan, reason)
        except AgreementError as error:
            self._abort(error.problem, error.remedy)
            return
        if reason:
            self._send_for_replacements(plan, reason, "")
        else:
            self._apply(plan)

    def _apply(self, plan: CapturePlan) -> None:
        self.epoch = plan.epoch
        dropped = self.walk.start(plan)
        if dropped:
            self._tell(events.Discarded, keys=tuple(key.label for key in dropped))
        self._planning.ledger.keep(self.walk.kept)
        self._walk_on(standing.plan_verdict(self))

    def _walk_on(self, verdict: Verdict) -> None:
        if self.key is not None:
            self._move(State.ARRIVE, verdict, self._deadlines.capture)
        else:
            self._move(State.SEAL, verdict, self._deadlines.seal)

    def _move(self, state: State, verdict: Verdict, patience: float | None) -> None:
        """Answer all that wait, and wait up to ``patience`` seconds for the next meeting."""
        for questions in self.meeting.waiting.values():
            for question in questions:
                self._answer(question, verdict)
        self.state = state
        self.meeting = Meeting(self._ranks)
        self._patience = patience or 0.0
        self._due = None if patience is None else self._now + patience

    def _answer(self, question: Question, verdict: Verdict) -> None:
        self._answers.append(Delivery(question.rank, question.incarnation, verdict, question))

    # Failures.

    def _lose(self, message: Lost) -> None:
        if message.incarnation != self.incarnation or self.state in (State.REPLACING, State.ABORTED):
            return
        if message.node:
            self._nodes.setdefault(message.rank, message.node)
        death = causes.lost_rank(message, self._where(message.rank), standing.graph_at_work(self))
        self._note_failure(death, message.rank)
        if message.final:
            self._abort(death.account, death.advice)
        else:
            self._replace(death)

    def _deadline_passed(self) -> None:
        if self.meeting.hearsay is not None:
            self._start_over(self.meeting.hearsay)
            return
        if self.state is State.REPLACING:
            self._begin(self.incarnation + 1)
        hang = causes.hanging_ranks(self._where(*self.meeting.hanging()), self._patience)
        self._note_failure(hang, None)
        # A rank that was refused at this very meeting is why the others hang.
        self._replace(self.meeting.failures[0] if self.meeting.failures else hang)

    def _who(self, *ranks: int) -> str:
        return name_ranks(ranks, self._nodes)

    def _where(self, *ranks: int) -> str:
        at = f" of {self.key.label}" if self.key is not None else ""
        return f"{self._who(*ranks)} in {self.phase.value}{at}"

    def _end(self, failure: Failure, rank: int | None) -> None:
        self._note_failure(failure, rank)
        self._replace(failure)

    def _note_failure(self, failure: Failure, rank: int | None) -> None:
        known = {"failure": failure.kind, "advice": failure.advice}
        self._tell(events.CaptureFailed, failure.account, rank=rank, key=self.walk.label, **known)

    def _fall_back(self, plan: CapturePlan, failure: Failure) -> None:
        """Go down the ladder in place."""
        self._planning.learn(self.meeting.refusals)
        lower = self._planning.step_down(plan, failure)
        if lower is None:
            self._abort(failure.account, failure.advice)
        elif changes_runtime(plan, lower):
            self._replace(failure)
        else:
            self._tell(events.Replanned, describe(lower), plan=lower)
            self._apply(lower)

    def _replace(self, failure: Failure) -> None:
        """End this incarnation for all; but when a rank only tells that another is gone, wait for word of its death."""
        if not failure.is_hearsay:
            self._start_over(failure)
        elif self.meeting.hearsay is None:
            self.meeting.hearsay, self._due = failure, self._now + DEATH_SECONDS

    def _start_over(self, failure: Failure) -> None:
        """Let fresh workers start from the plan that the ladder went down to."""
        failure = self.meeting.gravest(failure)
        self._planning.learn(self.meeting.refusals)
        try:
            start = self._planning.start_over(self.plan, failure)
        except LookupError as end:
            self._abort(str(end) + failure.evidence, failure.advice)
            return
        self._send_for_replacements(start, failure.account, failure.advice)

    def _send_for_replacements(self, start: CapturePlan | None, reason: str, advice: str) -> None:
        self.epoch = self.epoch if start is None else max(self.epoch, start.epoch)
        self.outcome = IncarnationOutcome(OutcomeKind.REPLACE, self.incarnation, start, reason, advice)
        self._tell(events.Replaced, reason, plan=start, advice=advice)
        self._move(State.REPLACING, standing.end_verdict(self, VerdictKind.REPLACE), self._deadlines.join)

    def _abort(self, reason: str, remedy: str) -> None:
        self.outcome = IncarnationOutcome(OutcomeKind.ABORT, self.incarnation, self.plan, reason, remedy)
        self._tell(events.Aborted, reason, advice=remedy)
        self._move(State.ABORTED, standing.end_verdict(self, VerdictKind.ABORT), None)

    def _tell(self, event: type[events.Event], text: str = "", **known: Any) -> None:
        self.events.append(event(time=self._now, incarnation=self.incarnation, text=text, **known))


_TAKE: dict[State, Callable[..., None]] = {
    State.JOIN: Session._join,
    State.PROPOSE: Session._propose,
    State.ARRIVE: Session._arrive,
    State.LEAVE: Session._leave,
    State.SEAL: Session._seal,
}
