"""The plan of a deployment as a page: what the tables say, and plots of sizes, padding, streams and memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ascend_serve.cli.plan_tables import (
    PLACEMENT_HEADINGS,
    arguments_text,
    capture_rows,
    environment_rows,
    environment_title,
    memory_rows,
    placement_rows,
    placement_title,
    summary_rows,
)
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.sizes import padded_size
from ascend_serve.planning.comparison import ComparedList
from ascend_serve.planning.deployment import DeploymentPlan
from ascend_serve.telemetry.page import still_page


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a plot, in parts of a hundred of its width and height.

    Attributes:
        x: Where it begins.
        width: How wide it is.
        height: How high it is.
        style: ``exact``, ``padded``, ``eager`` or ``plain``.
    """

    x: float
    width: float
    height: float
    style: str = "plain"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table with a bar in it."""

    cells: tuple[str, ...]
    bar: Bar


@dataclass(frozen=True, slots=True)
class Batches:
    """Batch sizes of decode steps and the graphs that they replay.

    Attributes:
        shares: How many steps have each size.
        padding: What padding adds to a batch of each size.
        marks: Where the captured sizes are.
        rows: A row for each captured size.
        first: The smallest batch, in tokens.
        largest: The largest batch, in tokens.
        most: The largest share, in words.
        worst: The largest padding, in words.
    """

    shares: tuple[Bar, ...]
    padding: tuple[Bar, ...]
    marks: tuple[float, ...]
    rows: tuple[Row, ...]
    first: int
    largest: int
    most: str
    worst: str


@dataclass(frozen=True, slots=True)
class PlanView:
    """All that the page shows."""

    plan: DeploymentPlan
    outcome: str
    outcome_text: str
    tables: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    batches: Batches | None
    rooms: tuple[Row, ...]
    compared: tuple[Row, ...]
    placement_title: str
    placement_headings: tuple[str, ...]
    placement: tuple[tuple[str, ...], ...]
    lists: tuple[tuple[str, tuple[str, ...]], ...]
    arguments: str


def plan_page(plan: DeploymentPlan, compared: Sequence[ComparedList]) -> str:
    """The page as one HTML document that needs nothing from elsewhere.

    Args:
        plan: The plan.
        compared: Our capture sizes beside the lists of others.
    """
    return still_page("plan.html", plan_view(plan, compared))


def plan_view(plan: DeploymentPlan, compared: Sequence[ComparedList]) -> PlanView:
    """What the page shows, in the words it shows it in."""
    outcome, text = _outcome(plan)
    tables = {
        "Deployment": summary_rows(plan),
        "Capture, per rank": capture_rows(plan),
        "Memory, per NPU": memory_rows(plan.memory),
        environment_title(plan): environment_rows(plan),
    }
    lists = {
        "Steps down if capture fails": tuple(step.text for step in plan.ladder),
        "Without effect": plan.no_effect,
        "Notes": plan.notes,
    }
    return PlanView(
        plan=plan,
        outcome=outcome,
        outcome_text=text,
        tables=tuple((title, tuple(rows)) for title, rows in tables.items() if title),
        batches=_batches(plan),
        rooms=(*_streams(plan), *_memory(plan)),
        compared=tuple(_compared(compared)),
        placement_title=placement_title(plan),
        placement_headings=PLACEMENT_HEADINGS,
        placement=tuple(placement_rows(plan)),
        lists=tuple((title, lines) for title, lines in lists.items() if lines),
        arguments=arguments_text(plan),
    )


def _outcome(plan: DeploymentPlan) -> tuple[str, str]:
    if plan.runtime is RuntimeName.EAGER:
        wanted = plan.requested_runtime is RuntimeName.EAGER or plan.requested_mode is GraphMode.NONE
        return "eager", "eager: as asked for" if wanted else "eager: nothing will be replayed"
    if plan.adjustments:
        return "degraded", "narrowed: less than was asked for"
    return "graph", "graph: all that was asked for"


def _batches(plan: DeploymentPlan) -> Batches | None:
    """The plots of batch sizes; ``None`` where there is nothing to replay."""
    sizes, weights = plan.capture.sizes, plan.weights
    if not sizes or not weights:
        return None
    largest, most, unit = max(*weights, *sizes), max(weights.values()), plan.capture.multiple_of
    replayed = {tokens: padded_size(sizes, tokens) for tokens in sorted(weights)}
    added = {tokens: 0.0 if size is None else size / tokens - 1 for tokens, size in replayed.items()}
    worst = max(added.values())

    def bar(tokens: int, part: float, whole: float) -> Bar:
        size = replayed[tokens]
        style = "eager" if size is None else "exact" if size == tokens else "padded"
        return Bar(_part(tokens - unit, largest), _part(unit, largest), _part(part, whole), style)

    return Batches(
        shares=tuple(bar(tokens, weights[tokens], most) for tokens in replayed),
        padding=tuple(bar(tokens, part, worst) for tokens, part in added.items() if part),
        marks=tuple(_part(size - unit / 2, largest) for size in sizes),
        rows=tuple(_graph_rows(sizes, plan)),
        first=unit,
        largest=largest,
        most=f"{most:.2%}",
        worst=f"{worst:.0%}",
    )


def _graph_rows(sizes: Sequence[int], plan: DeploymentPlan) -> Iterator[Row]:
    total = sum(plan.weights.values())
    below = 0
    for size in sizes:
        steps = {tokens: share for tokens, share in plan.weights.items() if below < tokens <= size}
        share, real = sum(steps.values()), sum(tokens * part for tokens, part in steps.items())
        waste = size * share / real - 1 if real else 0.0
        first = min(steps, default=size)
        batches = str(size) if size == first else f"{first} to {size}"
        yield Row((str(size), batches, f"{share / total:.1%}", f"{waste:.1%}"), _whole(share, total))
        below = size


def _streams(plan: DeploymentPlan) -> Iterator[Row]:
    capture = plan.capture
    if capture.stream_budget:
        text = f"{capture.streams} of {capture.stream_budget}"
        yield Row(("streams for graphs", text), _whole(capture.streams, capture.stream_budget))


def _memory(plan: DeploymentPlan) -> Iterator[Row]:
    memory = plan.memory
    if not memory.device_gib:
        return
    parts = (("weights", memory.weights_gib), ("KV cache, at most", memory.kv_cache_gib))
    for name, size in parts:
        if size is not None:
            text = f"{max(0.0, size):.2f} of {memory.device_gib:.0f} GiB"
            yield Row((name, text), _whole(size, memory.device_gib))


def _compared(lists: Iterable[ComparedList]) -> Iterator[Row]:
    entries = tuple(lists)
    longest = max((entry.padding_waste for entry in entries), default=0.0)
    for entry in entries:
        style = "exact" if entry.name.startswith("ours") else "plain"
        counts = tuple(str(count) for count in (len(entry.sizes), entry.graphs, entry.streams))
        cells = (entry.name, *counts, f"{entry.eager_share:.2%}", f"{entry.padding_waste:.2%}")
        yield Row(cells, _whole(entry.padding_waste, longest, style))


def _whole(part: float, whole: float, style: str = "plain") -> Bar:
    return Bar(0, _part(max(0.0, part), whole), 100, style)


def _part(part: float, whole: float) -> float:
    """As a part of a hundred."""
    return round(min(100 * part / whole, 100), 3) if whole else 0.0
