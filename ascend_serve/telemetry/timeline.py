"""The timeline of the last start, or of the last recovery: what took how long, one phase after the other."""

from __future__ import annotations

from dataclasses import dataclass

from ascend_serve.events import Event, EventKind, PhaseEnded


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a start.

    Attributes:
        name: What was done.
        begin: When it began, in seconds since the epoch.
        end: When it was over.
    """

    name: str
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max(0.0, self.end - self.begin)


_BEGINS = frozenset({EventKind.STARTED, EventKind.ENGINE_DIED, EventKind.ENGINE_STALLED})
_ENDS = frozenset({EventKind.READY, EventKind.ENGINE_RESTARTED, EventKind.START_FAILED})
_NAMES = {
    EventKind.JOINED: "load",
    EventKind.AGREED: "agree",
    EventKind.SEALED: "capture",
    EventKind.REPLACED: "attempt that failed",
    EventKind.ABORTED: "given up",
    EventKind.RESTART_FAILED: "restart that failed",
    EventKind.START_FAILED: "given up",
}
"""What ends with an event."""
_BEFORE = "replica_process"
"""The phase before the first event."""


class Timeline:
    """Takes events in, oldest first.

    Attributes:
        spans: The parts of the last start that are over.
        since: When the part began that goes on; ``None`` while nothing starts.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.since: float | None = None
        self._joined = -1

    def add(self, event: Event) -> None:
        """Take the next event in."""
        if event.kind in _BEGINS:
            self.spans, self.since, self._joined = [], event.time, -1
        if self.since is None:
            return
        if isinstance(event, PhaseEnded):
            self._phase(event)
        elif event.kind in _NAMES and not self._is_late(event):
            self._end(_NAMES[event.kind], event.time)
        if event.kind in _ENDS:
            self.since = None

    def _is_late(self, event: Event) -> bool:
        """Whether it is another rank that joins, of an incarnation that is there already."""
        before, self._joined = self._joined, max(self._joined, event.incarnation)
        return event.kind is EventKind.JOINED and event.incarnation <= before

    def _phase(self, event: PhaseEnded) -> None:
        if event.phase == _BEFORE:
            self.spans.insert(0, Span(event.phase, event.time - event.seconds, event.time))
        else:
            self._end(event.phase, event.time)

    def _end(self, name: str, time: float) -> None:
        if self.since is not None:
            self.spans.append(Span(name, self.since, time))
            self.since = time
