"""The phases of a start-up, shown while they run: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from ascend_serve.capture.messages import Phase
from ascend_serve.capture.outcome import OutcomeKind
from ascend_serve.capture.snapshot import Snapshot
from ascend_serve.events import CompilingKernels

_SESSION_PHASES = {
    Phase.JOIN: "load",
    Phase.PROPOSE: "agree",
    Phase.WARMUP: "capture",
    Phase.CAPTURE: "capture",
    Phase.SEAL: "capture",
    Phase.SERVE: "warm-up",
    Phase.ABORTED: "aborted",
}
"""What a person sees while the capture session is in one of its phases."""


class StartupProgress:
    """Shows one phase after the other with its time.

    Args:
        console: Where to; plain lines when it is no terminal, as in the log of a Ray job.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description:<9}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console,
            disable=not self._live,
        )
        self._phase = ""
        self._detail = ""
        self._task: TaskID | None = None
        self._since = time.monotonic()
        self._announced = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._finish()
        self._progress.stop()

    def enter(self, phase: str, detail: str = "") -> None:
        """Finish the phase that is shown and begin ``phase``, if it is another one."""
        if phase != self._phase:
            self._finish()
            self._phase, self._since = phase, time.monotonic()
            self._task = self._progress.add_task(phase, total=None, detail=detail)
        self._detail = detail
        if self._task is not None:
            self._progress.update(self._task, detail=detail)

    def follow(self, snapshot: Snapshot | None) -> None:
        """Show where a capture session is, as told by its driver's snapshot; ``None`` while there is no driver."""
        phase = session_phase(snapshot)
        if snapshot is not None:
            self._announce([event for event in snapshot.events if isinstance(event, CompilingKernels)])
        self.enter(phase, session_detail(snapshot))
        if snapshot is not None and phase == "capture" and self._task is not None:
            done, total = captured(snapshot)
            self._progress.update(self._task, completed=done, total=total)

    def _announce(self, events: Sequence[CompilingKernels]) -> None:
        """One line for each rank that began to compile static kernels: nothing else moves for minutes."""
        for event in events[self._announced :]:
            at = f" for {event.key}" if event.key else ""
            self._console.print(f"rank {event.rank}{at}: {event.text}", markup=False)
        self._announced = len(events)

    def _finish(self) -> None:
        if self._task is None:
            return
        self._progress.update(self._task, completed=1, total=1)
        if not self._live:
            detail = f", {self._detail}" if self._detail else ""
            self._console.print(f"{self._phase}: {time.monotonic() - self._since:.1f} s{detail}", markup=False)
        self._task = None


def session_phase(snapshot: Snapshot | None) -> str:
    """The phase that a person sees; ranks load the model before the first of them joins."""
    return "load" if snapshot is None else _SESSION_PHASES[snapshot.phase]


def session_detail(snapshot: Snapshot | None) -> str:
    """What is worth saying about the session beside its phase."""
    if snapshot is None:
        return ""
    if snapshot.outcome is not None and snapshot.outcome.kind is OutcomeKind.REPLACE:
        return "replacing all workers"
    if session_phase(snapshot) != "capture":
        return ""
    done, total = captured(snapshot)
    return f"{done} of {total} graphs on {len(snapshot.ranks)} ranks" if total else "nothing to capture"


def captured(snapshot: Snapshot) -> tuple[int, int]:
    """Graphs that all ranks hold, and graphs in the plan."""
    done = min((rank.graphs for rank in snapshot.ranks), default=0)
    return done, 0 if snapshot.plan is None else len(snapshot.plan.keys)
