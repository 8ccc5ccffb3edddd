"""What comes out of a session: answers to ranks, events for people, and how an incarnation ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ascend_serve.capture.messages import Question, Verdict
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.plan import CapturePlan


@dataclass(frozen=True, slots=True)
class Delivery:
    """A verdict that can be given now.

    Attributes:
        rank: The rank that asked.
        incarnation: The incarnation in which it asked.
        verdict: What it does next.
        question: The very message that is answered; each question handed in is answered once.
    """

    rank: int
    incarnation: int
    verdict: Verdict
    question: Question


class OutcomeKind(StrEnum):
    """How an incarnation ended."""

    SEALED = "sealed"
    REPLACE = "replace"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class IncarnationOutcome:
    """How an incarnation ended.

    Attributes:
        kind: ``sealed``: serve; ``replace``: end these workers and start the next incarnation; ``abort``: give up.
        incarnation: The incarnation that ended.
        plan: The sealed plan, or the one that fresh workers start from (``None`` when none was agreed on yet).
        reason: With ``replace`` and ``abort``: why, for a person.
        remedy: With ``replace`` and ``abort``: what a person can do about it.
    """

    kind: OutcomeKind
    incarnation: int
    plan: CapturePlan | None
    reason: str = ""
    remedy: str = ""


class EventKind(StrEnum):
    """What happened."""

    JOINED = "joined"
    AGREED = "agreed"
    COMPILING = "compiling"
    CAPTURED = "captured"
    COMMITTED = "committed"
    FAILED = "failed"
    REPLANNED = "replanned"
    REPLACED = "replaced"
    SEALED = "sealed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """One thing that happened, for reports and progress.

    Attributes:
        time: The clock of the caller, in seconds.
        kind: What happened.
        incarnation: In which incarnation.
        text: In words.
        rank: On which rank, or ``None`` when on all.
        key: With which graph.
        seconds: With ``captured``: time of warm-up and capture on that rank.
    """

    time: float
    kind: EventKind
    incarnation: int
    text: str
    rank: int | None = None
    key: GraphKey | None = None
    seconds: float | None = None
