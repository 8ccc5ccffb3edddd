"""The report of a capture group: what was asked for, what holds, and why they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ConfigDict

from ascend_serve.graph.plan import Adjustment
from ascend_serve.graph.rules import STATIC_SHAPE_MODES

_NOTHING: Mapping[str, Mapping[str, Any]] = MappingProxyType({})


class Outcome(StrEnum):
    """How much of what was asked for a capture group reached."""

    GRAPH = "graph"
    DEGRADED = "degraded"
    EAGER = "eager"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class AdjustmentReport(_Part):
    """One narrowing of what was asked for.

    Attributes:
        rule: Stable name of the rule that made it.
        before: What held so far.
        after: What holds since.
        reason: One sentence for a person.
    """

    rule: str
    before: str
    after: str
    reason: str


class SwitchReport(_Part):
    """An optimisation that is on or off.

    Attributes:
        on: Whether it works on the ranks.
        reason: Why.
    """

    on: bool
    reason: str


class RankReport(_Part):
    """One worker process.

    Attributes:
        rank: Number in the capture group.
        node: Name or address of its node.
        pid: Its process.
        incarnation: How many processes this rank had before.
        graphs: Graphs it holds.
        capture_seconds: Time it spent on warm-up and capture.
        streams_used: Device streams that its graphs take, where the device tells.
        streams_left: Device streams left, where the device tells.
        instruction_set: The widest one that an emulated NPU computes with, such as ``amx``; empty for a real NPU.
        state: Where it is in the protocol.
    """

    rank: int
    node: str = ""
    pid: int = 0
    incarnation: int = 0
    graphs: int = 0
    capture_seconds: float = 0.0
    streams_used: int | None = None
    streams_left: int | None = None
    instruction_set: str = ""
    state: str = ""


class Event(_Part):
    """One thing that happened in a capture session.

    Attributes:
        time: Seconds since the epoch.
        kind: Stable name.
        rank: Rank it happened on, ``None`` for the group.
        key: Label of the graph it is about, for example ``FULL/8``.
        text: For a person; the device's own words where there are any.
    """

    time: float
    kind: str
    rank: int | None = None
    key: str | None = None
    text: str = ""


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
        events: What happened, oldest first.
        seconds: Duration of each phase of the start-up.
        profiler_dir: Folder, on the node of each rank, that the profiler writes to; empty where it is not enabled.
    """

    outcome: Outcome
    requested_mode: str
    effective_mode: str
    requested_runtime: str
    runtime: str
    capture_sizes: tuple[int, ...] = ()
    adjustments: tuple[AdjustmentReport, ...] = ()
    options: dict[str, SwitchReport] = {}
    ranks: tuple[RankReport, ...] = ()
    events: tuple[Event, ...] = ()
    seconds: dict[str, float] = {}
    profiler_dir: str = ""


def build_report(
    snapshot: Mapping[str, Any],
    *,
    requested_runtime: str,
    requested_mode: str,
    planned: Sequence[Adjustment] = (),
    options: Mapping[str, Mapping[str, Any]] = _NOTHING,
    seconds: Mapping[str, float] | None = None,
    profiler_dir: str = "",
    history: Sequence[Event] = (),
) -> GraphReport:
    """Make the report from what the driver knows and what was decided before there was a driver.

    Args:
        snapshot: As from ``CaptureDriver.snapshot``.
        requested_runtime: The configuration's runtime; a planner may have asked the driver for less.
        requested_mode: The configuration's mode.
        planned: What a planner narrowed, oldest first.
        options: What a planner decided about optimisations, by name: ``on`` and ``reason``.
        seconds: Durations of phases outside of the driver's session.
        profiler_dir: Folder that the profiler writes to.
        history: What happened to the engine outside of the driver's session.
    """
    plan = snapshot.get("plan") or {}
    adjustments = _adjustments(planned, snapshot.get("adjustments", ()))
    return GraphReport(
        outcome=_outcome(plan, adjustments),
        requested_mode=requested_mode,
        effective_mode=plan.get("mode", "NONE"),
        requested_runtime=requested_runtime,
        runtime=plan.get("runtime", "eager"),
        capture_sizes=tuple(plan.get("capture_sizes", ())),
        adjustments=adjustments,
        options={name: _switch(option, plan) for name, option in options.items()},
        ranks=tuple(RankReport.model_validate(rank) for rank in snapshot.get("ranks", ())),
        events=(*history, *(Event.model_validate(event) for event in snapshot.get("events", ()))),
        seconds={name: round(value, 3) for name, value in {**snapshot.get("seconds", {}), **(seconds or {})}.items()},
        profiler_dir=profiler_dir,
    )


def _adjustments(planned: Sequence[Adjustment], agreed: Sequence[Mapping[str, Any]]) -> tuple[AdjustmentReport, ...]:
    """Planned ones first; the driver may know some of them too, because ranks propose what a planner left."""
    all_of_them = [
        *(AdjustmentReport(rule=a.rule, before=a.before, after=a.after, reason=a.reason) for a in planned),
        *(AdjustmentReport.model_validate(adjustment) for adjustment in agreed),
    ]
    return tuple(dict.fromkeys(all_of_them))


def _switch(option: Mapping[str, Any], plan: Mapping[str, Any]) -> SwitchReport:
    """What was planned, unless the group went down to a plan in which the compiler has no whole graph."""
    switch = SwitchReport.model_validate(option)
    holds = f"{plan.get('runtime', 'eager')} {plan.get('mode', 'NONE')}"
    if switch.on and plan.get("mode") not in STATIC_SHAPE_MODES:
        return SwitchReport(
            on=False, reason=f"The group runs {holds}, and it works in FULL and FULL_DECODE_ONLY alone."
        )
    return switch


def _outcome(plan: Mapping[str, Any], adjustments: Sequence[AdjustmentReport]) -> Outcome:
    replays = plan.get("runtime") == "xlite" or (plan.get("runtime") == "aclgraph" and plan.get("mode") != "NONE")
    if not replays:
        return Outcome.EAGER
    return Outcome.DEGRADED if adjustments else Outcome.GRAPH
