"""What is known about a capture group at one moment, as its events tell: for the terminal, the report and the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ascend_serve.capture.messages import Phase
from ascend_serve.capture.outcome import IncarnationOutcome, OutcomeKind
from ascend_serve.capture.roster import RankState, Roster
from ascend_serve.events import (
    OF_THE_ENGINE,
    Aborted,
    Agreed,
    Committed,
    Discarded,
    Event,
    EventKind,
    Joined,
    Proposed,
    Replaced,
    Replanned,
    Sealed,
    Warming,
)
from ascend_serve.graph.plan import CapturePlan

_SPANS = {
    "agree": (EventKind.JOINED, EventKind.AGREED),
    "capture": (EventKind.AGREED, EventKind.SEALED),
}
"""Phases of the start-up that a session knows, by the kinds of events that they lie between."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A capture group at one moment.

    Attributes:
        phase: The phase of the start-up that the group is in.
        incarnation: The incarnation that counts now.
        plan: The plan that it agreed on, or ``None`` before it did.
        outcome: How the incarnation ended, or ``None`` while it goes on.
        ranks: The worker processes, by rank.
        events: The latest events, oldest first, in seconds since the epoch.
        seconds: Seconds from the first rank's arrival to the agreement, and from there to the seal.
    """

    phase: Phase
    incarnation: int = 0
    plan: CapturePlan | None = None
    outcome: IncarnationOutcome | None = None
    ranks: tuple[RankState, ...] = ()
    events: tuple[Event, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)


class SnapshotFold:
    """Takes in the events of a capture group, one after the other, and knows where it is.

    Attributes:
        roster: The worker processes.
        phase: The phase of the start-up that the group is in.
        incarnation: The incarnation that counts now.
        plan: The plan that it agreed on, or ``None`` before it did.
        outcome: How the incarnation ended, or ``None`` while it goes on.
        held: Labels of graphs that all ranks hold, in the order of their capture.
        at: Label of the graph that all ranks warm up or capture now.
    """

    def __init__(self) -> None:
        self.roster = Roster()
        self.phase = Phase.JOIN
        self.incarnation = 0
        self.plan: CapturePlan | None = None
        self.outcome: IncarnationOutcome | None = None
        self.held: dict[str, None] = {}
        self.at: str | None = None
        self._joined: set[int] = set()
        self._first: dict[EventKind, float] = {}

    def add(self, event: Event) -> None:
        """Take the next event in."""
        if event.kind in OF_THE_ENGINE:
            if event.kind is not EventKind.ENGINE_RESTARTED:
                # The next engine's session has times of its own.
                self._first.clear()
            return
        if event.incarnation > self.incarnation:
            self._begin(event.incarnation)
        self._first.setdefault(event.kind, event.time)
        self.roster.note(event)
        self._go_on(event)

    def _begin(self, incarnation: int) -> None:
        self.incarnation, self.phase = incarnation, Phase.JOIN
        self.plan, self.outcome, self.at = None, None, None
        self.held, self._joined = {}, set()

    def _go_on(self, event: Event) -> None:
        match event:
            case Joined():
                self._join(event)
            case Proposed():
                self.phase = Phase.PROPOSE
            case Agreed(plan=plan) | Replanned(plan=plan):
                self.plan = plan
                self._walk_on()
            case Warming(key=key):
                self.phase, self.at = Phase.CAPTURE, key
            case Committed(key=key):
                self.held[key] = None
                self._walk_on()
            case Discarded(keys=keys):
                self.held = {label: None for label in self.held if label not in keys}
                self._walk_on()
            case Sealed() | Replaced() | Aborted():
                self._end(event)

    def _join(self, event: Joined) -> None:
        if self.phase not in (Phase.JOIN, Phase.PROPOSE) or self.outcome is not None:
            # Another session of the same processes, for other sizes.
            self._joined, self.plan, self.outcome = set(), None, None
        self._joined.add(event.rank)
        self.phase = Phase.PROPOSE if len(self._joined) == event.ranks else Phase.JOIN

    def _walk_on(self) -> None:
        self.at = None
        todo = self.plan is not None and any(key.label not in self.held for key in self.plan.keys)
        self.phase = Phase.WARMUP if todo else Phase.SEAL

    def _end(self, event: Sealed | Replaced | Aborted) -> None:
        kind, self.phase = _ENDS[event.kind]
        plan = self.plan if isinstance(event, Aborted) else event.plan
        advice = "" if isinstance(event, Sealed) else event.advice
        reason = "" if isinstance(event, Sealed) else event.text
        self.outcome = IncarnationOutcome(kind, self.incarnation, plan, reason, advice)
        self.at = None

    @property
    def seconds(self) -> dict[str, float]:
        """Durations of the phases of the session that are over."""
        spans = {name: span for name, span in _SPANS.items() if self._first.keys() >= set(span)}
        return {name: round(self._first[end] - self._first[start], 3) for name, (start, end) in spans.items()}

    def snapshot(self, events: Sequence[Event] = ()) -> Snapshot:
        """What is known now.

        Args:
            events: The latest events.
        """
        wanted = frozenset[str]() if self.plan is None else frozenset(key.label for key in self.plan.keys)
        ranks = self.roster.states(wanted)
        return Snapshot(self.phase, self.incarnation, self.plan, self.outcome, ranks, tuple(events), dict(self.seconds))


_ENDS = {
    EventKind.SEALED: (OutcomeKind.SEALED, Phase.SERVE),
    EventKind.REPLACED: (OutcomeKind.REPLACE, Phase.JOIN),
    EventKind.ABORTED: (OutcomeKind.ABORT, Phase.ABORTED),
}
"""How an incarnation ends by the kind of its last event, and the phase that the group is in then."""
