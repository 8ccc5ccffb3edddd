"""The report of a capture group: what was asked for, what holds, and why they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict

from ascend_serve.capture.roster import RankState
from ascend_serve.capture.snapshot import Snapshot
from ascend_serve.events import AnyEvent, Event, EventKind
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import Adjustment, CapturePlan, Switch
from ascend_serve.graph.rules import STATIC_SHAPE_MODES

_NOTHING: Mapping[str, Switch] = MappingProxyType({})


class Outcome(StrEnum):
    """How much of what was asked for a capture group reached."""

    GRAPH = "graph"
    DEGRADED = "degraded"
    EAGER = "eager"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class GraphReport(_Part):
    """The answer of ``GET /graph/report``.

    Attributes:
        outcome: ``graph``: all that was asked for; ``degraded``: less; ``eager``: nothing is replayed.
        requested_mode: The mode that the configuration asks for.
        effective_mode: The mode that holds on all ranks.
        requested_runtime: The runtime that the configuration asks for.
        runtime: The runtime that holds on all ranks.
        capture_sizes: Captured sizes, ascending, in tokens.
        adjustments: Every narrowing, oldest first.
        options: Optimisations of the compiler by name: ``npugraph_ex`` and ``static_kernel``.
        ranks: The worker processes.
        events: What happened, oldest first, as far as it is kept.
        seconds: Duration of each phase of the start-up.
        profiler_dir: Folder, on the node of each rank, that the profiler writes to; empty where it is not enabled.
        recovering_since: When the engine was lost that is being replaced, in seconds since the epoch; ``None`` while
            there is one that answers.
    """

    outcome: Outcome
    requested_mode: GraphMode
    effective_mode: GraphMode
    requested_runtime: RuntimeName
    runtime: RuntimeName
    capture_sizes: tuple[int, ...] = ()
    adjustments: tuple[Adjustment, ...] = ()
    options: dict[str, Switch] = {}
    ranks: tuple[RankState, ...] = ()
    events: tuple[AnyEvent, ...] = ()
    seconds: dict[str, float] = {}
    profiler_dir: str = ""
    recovering_since: float | None = None


def build_report(
    snapshot: Snapshot | None,
    *,
    requested_runtime: RuntimeName,
    requested_mode: GraphMode,
    planned: Sequence[Adjustment] = (),
    options: Mapping[str, Switch] = _NOTHING,
    seconds: Mapping[str, float] = MappingProxyType({}),
    profiler_dir: str = "",
) -> GraphReport:
    """Make the report from what is known of the capture group and what was decided before there was one.

    Args:
        snapshot: What is known of the group; ``None`` where there is none.
        requested_runtime: The configuration's runtime; a planner may have asked the driver for less.
        requested_mode: The configuration's mode.
        planned: What a planner narrowed, oldest first.
        options: What a planner decided about optimisations, by name.
        seconds: Durations of phases outside of the driver's session.
        profiler_dir: Folder that the profiler writes to.
    """
    plan = None if snapshot is None else snapshot.plan
    # The driver may know some of what was planned too, because ranks propose what a planner left.
    adjustments = tuple(dict.fromkeys((*planned, *(plan.adjustments if plan else ()))))
    events = () if snapshot is None else snapshot.events
    session_seconds = {} if snapshot is None else snapshot.seconds
    return GraphReport(
        outcome=_outcome(plan, adjustments),
        requested_mode=requested_mode,
        effective_mode=plan.mode if plan else GraphMode.NONE,
        requested_runtime=requested_runtime,
        runtime=plan.runtime if plan else RuntimeName.EAGER,
        capture_sizes=plan.capture_sizes if plan else (),
        adjustments=adjustments,
        options={name: _switch(option, plan) for name, option in options.items()},
        ranks=() if snapshot is None else snapshot.ranks,
        events=events,
        seconds={name: round(value, 3) for name, value in {**session_seconds, **seconds}.items()},
        profiler_dir=profiler_dir,
        recovering_since=_recovering_since(events),
    )


def _recovering_since(events: Sequence[Event]) -> float | None:
    since = None
    for event in events:
        if event.kind in (EventKind.ENGINE_DIED, EventKind.ENGINE_STALLED):
            since = event.time
        elif event.kind is EventKind.ENGINE_RESTARTED:
            since = None
    return since


def _switch(planned: Switch, plan: CapturePlan | None) -> Switch:
    """What was planned, unless the group went down to a plan in which the compiler has no whole graph."""
    if planned.on and (plan is None or plan.mode not in STATIC_SHAPE_MODES):
        holds = "eager NONE" if plan is None else f"{plan.runtime} {plan.mode}"
        return Switch(False, f"The group runs {holds}, and it works in FULL and FULL_DECODE_ONLY alone.")
    return planned


def _outcome(plan: CapturePlan | None, adjustments: Sequence[Adjustment]) -> Outcome:
    if plan is None or plan.is_eager:
        return Outcome.EAGER
    return Outcome.DEGRADED if adjustments else Outcome.GRAPH
