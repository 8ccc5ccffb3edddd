"""What the events of a replica come to: the one fold of which report, page and metrics are views."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Self

from ascend_serve.capture.snapshot import SnapshotFold
from ascend_serve.events import (
    OF_THE_ENGINE,
    Agreed,
    CaptureFailed,
    EngineDied,
    EngineRestarted,
    EngineStalled,
    Event,
    EventKind,
    PhaseEnded,
    Recaptured,
    Replanned,
    Started,
    StartFailed,
)
from ascend_serve.graph.failure import FailureKind
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.telemetry.report import GraphReport, build_report
from ascend_serve.telemetry.timeline import Timeline

_MOST_STEPS = 200
"""How many failures, steps of the ladder and losses of engines are remembered, the latest."""

_STEPS = OF_THE_ENGINE | {
    EventKind.AGREED,
    EventKind.FAILED,
    EventKind.REPLANNED,
    EventKind.REPLACED,
    EventKind.SEALED,
    EventKind.ABORTED,
    EventKind.RECAPTURED,
    EventKind.START_FAILED,
}


class Story:
    """Takes in events, oldest first, and knows what holds after the latest.

    Attributes:
        started: How it began; ``None`` before that is known.
        group: The capture group.
        seconds: Durations of the phases of the start-up outside of the capture session.
        timeline: What took how long in the last start or recovery.
        steps: What changed the plan or ended something, oldest first.
        began: When the first event was; ``None`` before there is one.
        wanted: Capture sizes of all graphs of this start's plans, by label, also of those that were given up.
        kinds: How many events there were by kind.
        failures: How many failures there were by class.
        given_up: What told that the engine did not start; ``None`` otherwise.
        is_away: Whether the engine was lost, and no other one serves yet.
        ready: When the replica began to answer; ``None`` before that.
        latest: The latest event.
    """

    def __init__(self) -> None:
        self.started: Started | None = None
        self.group = SnapshotFold()
        self.seconds: dict[str, float] = {}
        self.timeline = Timeline()
        self.steps: deque[Event] = deque(maxlen=_MOST_STEPS)
        self.began: float | None = None
        self.ready: float | None = None
        self.wanted: dict[str, int] = {}
        self.kinds: Counter[EventKind] = Counter()
        self.failures: Counter[FailureKind] = Counter()
        self.given_up: Event | None = None
        self.is_away = False
        self.latest: Event | None = None

    @classmethod
    def of(cls, events: Iterable[Event]) -> Self:
        """The story that ``events`` tell."""
        story = cls()
        for event in events:
            story.add(event)
        return story

    def add(self, event: Event) -> None:
        """Take the next event in."""
        self.latest = event
        self.kinds[event.kind] += 1
        self.began = event.time if self.began is None else self.began
        self.timeline.add(event)
        if event.kind in _STEPS:
            self.steps.append(event)
        match event:
            case Started():
                self.started = event
            case PhaseEnded(phase=phase, seconds=seconds):
                self.seconds[phase] = seconds
            case Event(kind=EventKind.READY):
                self.ready = event.time
            case _:
                self.group.add(event)
                self._note(event)

    def _note(self, event: Event) -> None:
        match event:
            case Agreed(plan=plan) | Replanned(plan=plan):
                self.wanted |= {key.label: key.num_tokens for key in plan.keys}
            case Recaptured() if self.group.plan is not None:
                self.wanted = {key.label: key.num_tokens for key in self.group.plan.keys}
            case CaptureFailed(failure=failure):
                self.failures[failure] += 1
            case StartFailed():
                self.given_up = event
            case EngineDied() | EngineStalled():
                self.is_away, self.wanted = True, {}
            case EngineRestarted():
                self.is_away = False

    def report(self, events: Sequence[Event] = (), profiler_dir: str = "") -> GraphReport:
        """What was asked for, what holds, and why they differ.

        Args:
            events: The events that are told with it.
            profiler_dir: Folder that the profiler writes to.
        """
        started = self.started
        return build_report(
            self.group.snapshot(events),
            requested_runtime=RuntimeName.EAGER if started is None else started.requested_runtime,
            requested_mode=GraphMode.NONE if started is None else started.requested_mode,
            planned=() if started is None else started.planned,
            options={} if started is None else started.options,
            seconds=self.seconds,
            profiler_dir=profiler_dir,
        )
