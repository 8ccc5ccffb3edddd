"""What is known about a capture group at one moment: what its driver tells the terminal and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ascend_serve.capture.messages import Phase
from ascend_serve.capture.outcome import EventKind, IncarnationOutcome, SessionEvent
from ascend_serve.capture.roster import RankState, Roster
from ascend_serve.capture.session import Session
from ascend_serve.graph.plan import CapturePlan


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A capture group at one moment.

    Attributes:
        phase: The phase of the start-up that the group is in.
        incarnation: The incarnation that counts now.
        plan: The plan that it agreed on, or ``None`` before it did.
        outcome: How the incarnation ended, or ``None`` while it goes on.
        ranks: The worker processes, by rank.
        events: Everything that happened, oldest first, in seconds since the epoch.
        seconds: Seconds from the first rank's arrival to the agreement, and from there to the seal.
    """

    phase: Phase
    incarnation: int = 0
    plan: CapturePlan | None = None
    outcome: IncarnationOutcome | None = None
    ranks: tuple[RankState, ...] = ()
    events: tuple[SessionEvent, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, session: Session, roster: Roster, epoch_time: float) -> Snapshot:
        """Take a snapshot.

        Args:
            session: The group's session.
            roster: Its worker processes.
            epoch_time: What to add to the session's clock to get seconds since the epoch.
        """
        return cls(
            session.phase,
            session.incarnation,
            session.plan,
            session.outcome,
            roster.states(() if session.plan is None else session.plan.keys),
            tuple(replace(event, time=round(epoch_time + event.time, 3)) for event in session.events),
            _seconds(session.events),
        )


def _seconds(events: Sequence[SessionEvent]) -> dict[str, float]:
    first: dict[EventKind, float] = {}
    for event in events:
        first.setdefault(event.kind, event.time)
    spans = {
        "agree": (EventKind.JOINED, EventKind.AGREED),
        "capture": (EventKind.AGREED, EventKind.SEALED),
    }
    known = {name: span for name, span in spans.items() if first.keys() >= set(span)}
    return {name: round(first[end] - first[start], 3) for name, (start, end) in known.items()}
