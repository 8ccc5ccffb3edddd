"""What comes out of a session beside its events: answers to ranks, and how an incarnation ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ascend_serve.capture.messages import Question, Verdict
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
