"""Everything known about a capture group, as plain JSON types."""

from __future__ import annotations

from typing import Any

from ascend_serve.capture.outcome import EventKind, SessionEvent
from ascend_serve.capture.roster import Roster
from ascend_serve.capture.session import Session
from ascend_serve.graph.plan import CapturePlan, GraphRequest


def snapshot(group: str, session: Session, request: GraphRequest, roster: Roster, epoch_time: float) -> dict[str, Any]:
    """Describe a capture group for reports and progress.

    Args:
        group: Name of the capture group.
        session: Its session.
        request: What the configuration asked for.
        roster: Its worker processes.
        epoch_time: What to add to the session's clock to get seconds since the epoch.
    """
    plan, outcome = session.plan, session.outcome
    return {
        "group": group,
        "phase": session.phase.value,
        "epoch": session.epoch,
        "incarnation": session.incarnation,
        "requested": {"runtime": request.runtime.value, "mode": request.mode.value},
        "plan": None if plan is None else _plan(plan),
        "adjustments": [] if plan is None else [_adjustment(adjustment) for adjustment in plan.adjustments],
        "outcome": None if outcome is None else outcome.kind.value,
        "reason": "" if outcome is None else outcome.reason,
        "remedy": "" if outcome is None else outcome.remedy,
        "ranks": roster.rows(() if plan is None else plan.keys),
        "events": [_event(event, epoch_time) for event in session.events],
        "seconds": _seconds(session),
    }


def _plan(plan: CapturePlan) -> dict[str, Any]:
    return {
        "runtime": plan.runtime.value,
        "mode": plan.mode.value,
        "capture_sizes": list(plan.capture_sizes),
        "keys": [key.label for key in plan.keys],
    }


def _adjustment(adjustment: Any) -> dict[str, str]:
    return {
        "rule": adjustment.rule,
        "before": adjustment.before,
        "after": adjustment.after,
        "reason": adjustment.reason,
    }


def _event(event: SessionEvent, epoch_time: float) -> dict[str, Any]:
    return {
        "time": round(epoch_time + event.time, 3),
        "kind": event.kind.value,
        "rank": event.rank,
        "key": None if event.key is None else event.key.label,
        "text": event.text,
    }


def _seconds(session: Session) -> dict[str, float]:
    """Seconds from the first rank's arrival to the agreement, and from there to the seal."""
    first: dict[EventKind, float] = {}
    for event in session.events:
        first.setdefault(event.kind, event.time)
    spans = {
        "agree": (EventKind.JOINED, EventKind.AGREED),
        "capture": (EventKind.AGREED, EventKind.SEALED),
    }
    known = {name: span for name, span in spans.items() if first.keys() >= set(span)}
    return {name: round(first[end] - first[start], 3) for name, (start, end) in known.items()}
