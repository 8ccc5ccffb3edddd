"""Where a session stands, and what follows from that alone: mostly answers to questions that it does not wait for."""

from __future__ import annotations

from typing import Any, Protocol

from ascend_serve.capture.messages import (
    Arrive,
    Failed,
    Join,
    Leave,
    Lost,
    Message,
    Propose,
    Question,
    Seal,
    Verdict,
    VerdictKind,
)
from ascend_serve.capture.outcome import IncarnationOutcome
from ascend_serve.capture.state import EXPECTED, State
from ascend_serve.capture.walk import Walk
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.plan import CapturePlan, Proposal


class Standing(Protocol):
    """Where a session stands."""

    @property
    def incarnation(self) -> int: ...

    @property
    def epoch(self) -> int: ...

    @property
    def state(self) -> State: ...

    @property
    def outcome(self) -> IncarnationOutcome | None: ...

    @property
    def walk(self) -> Walk: ...

    @property
    def ceiling(self) -> CapturePlan | None: ...


def opens_next_incarnation(session: Standing, message: Message) -> bool:
    """Whether it is the first word of the fresh workers that the group waits for."""
    next_one = session.state is State.REPLACING and message.incarnation == session.incarnation + 1
    return next_one and isinstance(message, Join | Failed | Lost)


def is_expected(session: Standing, question: Question) -> bool:
    """Whether the group waits for this question."""
    at_key = not isinstance(question, Arrive | Leave) or question.key == session.walk.key
    in_epoch = not isinstance(question, Arrive | Leave | Seal) or question.epoch == session.epoch
    return isinstance(question, EXPECTED[session.state]) and at_key and in_epoch


def graph_at_work(session: Standing) -> GraphKey | None:
    """The graph whose work a death may be; between two graphs it may be the work of the one before."""
    inside = session.state is State.LEAVE or (session.state is State.ARRIVE and bool(session.walk.kept))
    return session.walk.key if inside else None


def ended_verdict(session: Standing, question: Question) -> Verdict | None:
    """The verdict for a process whose part in the session is over; ``None`` for any other."""
    if session.state is State.ABORTED:
        return end_verdict(session, VerdictKind.ABORT)
    if session.state is State.REPLACING or question.incarnation != session.incarnation:
        return end_verdict(session, VerdictKind.REPLACE)
    if session.state is State.JOIN and not isinstance(question, Join | Failed):
        return Verdict(VerdictKind.REPLACE, session.epoch, session.ceiling, reason="this process never joined")
    return None


def end_verdict(session: Standing, kind: VerdictKind) -> Verdict:
    """The verdict that ends processes, with the reason where it is theirs."""
    outcome = session.outcome
    if outcome is None:
        reason = f"this process is not of incarnation {session.incarnation}"
        return Verdict(kind, session.epoch, session.walk.plan or session.ceiling, reason=reason)
    return Verdict(kind, session.epoch, outcome.plan, reason=outcome.reason, remedy=outcome.remedy)


def late_verdict(session: Standing, question: Question) -> Verdict | None:
    """The current state, for a question that the group is past; ``None`` for any other."""
    if isinstance(question, Failed):
        return None
    if session.state is State.SEALED:
        return Verdict(VerdictKind.SEALED, session.epoch, session.walk.plan)
    if isinstance(question, Join):
        return None if session.state is State.JOIN else Verdict(VerdictKind.PROPOSE, session.epoch)
    if session.walk.plan is not None and (isinstance(question, Propose) or question.epoch < session.epoch):
        return plan_verdict(session)
    return _late_at_key(session, question)


def plan_verdict(session: Standing) -> Verdict:
    """The plan that holds, with the graphs that stay."""
    return Verdict(VerdictKind.PLAN, session.epoch, session.walk.plan, kept=session.walk.kept)


def of_proposal(proposal: Proposal) -> dict[str, Any]:
    """What people are told of a proposal."""
    names = ("runtimes", "mode", "capture_sizes", "stream_budget")
    return {name: getattr(proposal, name) for name in names}


def _late_at_key(session: Standing, question: Question) -> Verdict | None:
    if isinstance(question, Arrive | Leave) and session.walk.holds(question.key):
        return Verdict(VerdictKind.COMMIT, session.epoch)
    if isinstance(question, Arrive) and question.key == session.walk.key and session.state is State.LEAVE:
        return Verdict(VerdictKind.GO, session.epoch)
    return None
