"""What the page at ``/graph`` shows, in the words it shows it in; nothing here knows HTML."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ascend_serve.capture.messages import Phase
from ascend_serve.capture.outcome import OutcomeKind
from ascend_serve.events import Event, EventKind
from ascend_serve.graph.plan import Adjustment
from ascend_serve.graph.sizes import padding_waste
from ascend_serve.telemetry.rank_matrix import RankMatrix, rank_matrix
from ascend_serve.telemetry.report import Outcome
from ascend_serve.telemetry.step_meter import Replay, StepKind, classify
from ascend_serve.telemetry.story import Story


@dataclass(frozen=True, slots=True)
class BatchBar:
    """Decode steps of one size."""

    tokens: int
    steps: int
    share: str
    width: float
    replay: str
    text: str
    padding: str


@dataclass(frozen=True, slots=True)
class BatchView:
    """The decode steps that were counted, and what padding cost."""

    bars: tuple[BatchBar, ...]
    summary: str
    saving: str = ""


@dataclass(frozen=True, slots=True)
class TimelineBar:
    """One phase, as a part of the whole from 0 to 100."""

    name: str
    seconds: str
    begin: float
    width: float
    style: str


@dataclass(frozen=True, slots=True)
class StepLine:
    """One thing that changed the plan or ended something."""

    iso: str
    clock: str
    kind: str
    where: str
    text: str
    account: str
    advice: str
    style: str


@dataclass(frozen=True, slots=True)
class NamedText:
    """A name and what it says."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class PageView:
    """All that the page shows.

    Attributes:
        name: Of the model.
        live: Whether the page follows a replica.
        moment: When this was so.
        outcome: For the style: an outcome, ``starting`` or ``away``.
        outcome_text: In words.
        headline: What goes on, in a sentence.
        cause: Why it is not all that was asked for; empty when it is.
        account: What else was told of that.
        advice: What to do about that.
        tiles: The numbers of now.
        matrix: Ranks by graphs.
        batches: Decode steps by size.
        timeline: The last start.
        timeline_text: What took how long in all.
        asked: What was asked for and what holds.
        adjustments: What was given up, and why.
        steps: What happened, the latest first.
        facts: Options and versions.
    """

    name: str
    live: bool
    moment: str
    outcome: str
    outcome_text: str
    headline: str
    cause: str
    account: str
    advice: str
    tiles: tuple[NamedText, ...]
    matrix: RankMatrix
    batches: BatchView
    timeline: tuple[TimelineBar, ...]
    timeline_text: str
    asked: str
    adjustments: tuple[Adjustment, ...]
    steps: tuple[StepLine, ...]
    facts: tuple[NamedText, ...]


@dataclass(frozen=True, slots=True)
class LiveNumbers:
    """What only a running replica knows.

    Attributes:
        tiles: The numbers of now.
        decode: Decode steps so far by their tokens.
        better: Sizes that would waste less; ``None`` while that is not known.
    """

    tiles: tuple[NamedText, ...] = ()
    decode: Mapping[int, int] = field(default_factory=dict)
    better: tuple[int, ...] | None = None


def page_view(
    story: Story, numbers: LiveNumbers | None = None, *, live: bool = False, now: float | None = None
) -> PageView:
    """Make the page's content.

    Args:
        story: What the events came to.
        numbers: What a running replica knows besides; ``None`` where none was asked.
        live: Whether the page follows the replica.
        now: Seconds since the epoch.
    """
    report = story.report()
    outcome, headline = _state(story, report.outcome)
    blame = _blame(story) if outcome != Outcome.GRAPH else None
    cause, account = _first_line("" if blame is None else blame.text)
    spans, text = _timeline(story)
    return PageView(
        name="deployment" if story.started is None else story.started.name,
        live=live,
        moment=time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)),
        outcome=outcome,
        outcome_text=_OUTCOMES[outcome],
        headline=headline,
        cause=cause,
        account=account,
        advice="" if blame is None else getattr(blame, "advice", ""),
        tiles=() if numbers is None else numbers.tiles,
        matrix=rank_matrix(story),
        batches=_batches(story, numbers),
        timeline=spans,
        timeline_text=text,
        asked=f"Asked for: {report.requested_runtime} {report.requested_mode}. "
        f"In force: {report.runtime} {report.effective_mode}"
        f"{' at ' + ', '.join(map(str, report.capture_sizes)) if report.capture_sizes else ''}.",
        adjustments=report.adjustments,
        steps=tuple(map(_step, reversed(story.steps))),
        facts=tuple(_facts(story)),
    )


_OUTCOMES = {
    Outcome.GRAPH: "graph: all that was asked for",
    Outcome.DEGRADED: "degraded: less than was asked for",
    Outcome.EAGER: "eager: nothing is replayed",
    "starting": "starting",
    "away": "away: no engine answers",
}
_PHASES = {
    Phase.JOIN: "The engine starts: ranks load the model.",
    Phase.PROPOSE: "All ranks are there and tell what they can do.",
    Phase.WARMUP: "All ranks agreed on a plan and capture it.",
    Phase.CAPTURE: "All ranks warm up and capture a graph.",
    Phase.SEAL: "All graphs are captured; the ranks compare what they hold.",
    Phase.SERVE: "The ranks hold their graphs; the engine warms up.",
    Phase.ABORTED: "The capture session was given up.",
}


def _state(story: Story, outcome: Outcome) -> tuple[str, str]:
    if story.given_up is not None:
        return "away", "The engine did not start."
    at = f" Now at {story.group.at}." if story.group.at else ""
    held = f" {len(story.group.held)} of {len(story.wanted)} graphs are held by all ranks." if story.wanted else ""
    where = f"{_PHASES[story.group.phase]}{at}{held}"
    if story.is_away:
        return "away", f"The engine was lost and is being replaced. {where}"
    if story.ready is None:
        return "starting", where
    if story.group.phase is Phase.ABORTED:
        # The driver tells it first.
        return "away", "The engine was lost."
    if story.group.phase is not Phase.SERVE:
        return outcome, f"It serves, and captures other sizes between requests.{at}"
    return outcome, "It serves."


def _blame(story: Story) -> Event | None:
    """The event that tells why: what gave the start up, or lost the engine, or else the last failure."""
    if story.given_up is not None:
        return story.given_up
    kinds = (EventKind.ENGINE_DIED, EventKind.ENGINE_STALLED) if story.is_away else (EventKind.FAILED,)
    return next((step for step in reversed(story.steps) if step.kind in kinds), None)


def _batches(story: Story, numbers: LiveNumbers | None) -> BatchView:
    if numbers is None:
        return BatchView((), "Steps are counted by a running replica; a file of events has none.")
    plan = story.group.plan
    steps = list(classify(StepKind.DECODE, numbers.decode, plan))
    total = sum(step.count for step in steps)
    if plan is None or not total:
        return BatchView((), "No decode step was counted yet.")
    most = max(step.count for step in steps)
    bars = tuple(
        BatchBar(
            step.tokens,
            step.count,
            f"{step.count / total:.1%} of the steps",
            round(100 * step.count / most, 1),
            step.replay,
            "eager" if step.replay is Replay.EAGER else f"graph of {step.size or step.tokens}",
            f"{step.padding / step.real:.0%}" if step.padding else "none",
        )
        for step in steps
    )
    waste = padding_waste(plan.capture_sizes, numbers.decode)
    captured = ", ".join(map(str, plan.capture_sizes)) or "none"
    summary = f"{total} decode steps so far. Captured sizes: {captured}. Padding wastes {waste:.1%} of the replayed."
    return BatchView(bars, summary, _saving(plan.capture_sizes, numbers, waste))


def _saving(sizes: Sequence[int], numbers: LiveNumbers, waste: float) -> str:
    """What replanning would save."""
    if numbers.better is None:
        return ""
    would = padding_waste(numbers.better, numbers.decode)
    if would >= waste:
        return "No other sizes, of as many, would waste less."
    return f"With {', '.join(map(str, numbers.better))} it would be {would:.1%}: graph.replan=idle captures such sizes."


_STYLES = {
    "attempt that failed": "redo",
    "restart that failed": "lost",
    "given up": "lost",
    "capture": "exact",
}


def _timeline(story: Story) -> tuple[tuple[TimelineBar, ...], str]:
    spans = story.timeline.spans
    whole = sum(span.seconds for span in spans)
    bars, passed = [], 0.0
    for span in spans:
        begin, width = (100 * part / (whole or 1.0) for part in (passed, span.seconds))
        bars.append(
            TimelineBar(
                span.name.replace("_", " "),
                f"{span.seconds:.1f}",
                round(min(begin, 99.0), 2),
                round(max(width, 0.5), 2),
                _STYLES.get(span.name, "plain"),
            )
        )
        passed += span.seconds
    goes_on = " so far" if story.timeline.since is not None else ""
    return tuple(bars), f"{whole:.1f} s in all{goes_on}."


_BAD = frozenset(
    {
        EventKind.FAILED,
        EventKind.ABORTED,
        EventKind.START_FAILED,
        EventKind.ENGINE_DIED,
        EventKind.ENGINE_STALLED,
        EventKind.RESTART_FAILED,
    }
)
_WARN = frozenset({EventKind.REPLANNED, EventKind.REPLACED})


def _step(event: Event) -> StepLine:
    style = "bad" if event.kind in _BAD else "warn" if event.kind in _WARN else "good"
    where = " ".join(part for part in ("" if event.rank is None else f"rank {event.rank}", event.key or "") if part)
    moment = time.localtime(event.time)
    text, account = _first_line(event.text)
    return StepLine(
        time.strftime("%Y-%m-%dT%H:%M:%S%z", moment),
        time.strftime("%H:%M:%S", moment),
        event.kind.replace("_", " "),
        where,
        text,
        account,
        getattr(event, "advice", ""),
        style,
    )


def _first_line(text: str) -> tuple[str, str]:
    """The first line of an account, and the others, which are mostly of a log."""
    first, _, others = text.partition("\n")
    return first, others


def _facts(story: Story) -> Iterator[NamedText]:
    outcome = story.group.outcome
    if outcome is not None and outcome.kind is OutcomeKind.REPLACE:
        yield NamedText("workers", "all are being replaced by fresh ones")
    yield NamedText("incarnation of the workers", str(story.group.incarnation))
    if story.started is None:
        return
    for name, switch in story.started.options.items():
        yield NamedText(name, f"{'on' if switch.on else 'off'}: {switch.reason}")
    for package, version in story.started.versions.items():
        yield NamedText(package, version)
