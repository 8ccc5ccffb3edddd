"""The results as one page of HTML with plots, which needs nothing beside it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.serving.figures import FIGURES
from benchmarks.serving.pairs import Spread, spread
from benchmarks.serving.results import LoadResult, Results, system_title

TEMPLATE = Path(__file__).with_name("page.html.j2")

PLOTS = (
    ("tokens_per_second", "output tokens/s"),
    ("ttft_p50_ms", "TTFT p50, ms"),
    ("tpot_p50_ms", "TPOT p50, ms"),
)


@dataclass(frozen=True)
class Bar:
    """One bar of a plot.

    Attributes:
        label: What it stands for.
        measured: Median, lowest and highest.
        parts: What it is made of, where it is stacked: name and length.
    """

    label: str
    measured: Spread
    parts: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Plot:
    """Bars of one metric under one load.

    Attributes:
        title: What it shows.
        bars: One for each system.
    """

    title: str
    bars: tuple[Bar, ...]

    @property
    def longest(self) -> float:
        """The end of the axis."""
        return max((bar.measured.high for bar in self.bars), default=0.0) or 1.0


def write_page(results: Results, path: Path) -> None:
    """Write the page."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template(TEMPLATE.name).render(
        results=results,
        figures=list(_figures(results)),
        plots=[plot for plot in plots(results) if plot.bars],
        roles=results.roles(),
    )
    path.write_text(page, encoding="utf-8")


def plots(results: Results) -> Iterator[Plot]:
    """All plots, the loads of one device time together."""
    yield Plot("from the command to the first token, s", tuple(_bars(results, "start_seconds", 0)))
    for device_time in sorted({device_time for _, device_time in results.measured_systems()}):
        for clients in _loads(results, device_time):
            where = f"{clients} clients" + (f", device {device_time:g} ms" if device_time else "")
            for metric, title in PLOTS:
                yield Plot(f"{title}: {where}", tuple(_bars(results, metric, clients, device_time)))
            yield Plot(f"processor ms per token: {where}", tuple(_stacked(results, clients, device_time)))


def _loads(results: Results, device_time: float) -> list[int]:
    systems = [system for system, other in results.measured_systems() if other == device_time]
    return sorted({clients for system in systems for clients in results.clients(system, device_time)})


def _bars(results: Results, metric: str, clients: int, only: float | None = None) -> Iterator[Bar]:
    for system, device_time in results.measured_systems():
        measured = spread(list(results.values(system, device_time, metric, clients).values()))
        if measured is not None and only in (None, device_time):
            yield Bar(system_title(system, device_time), measured)


def _stacked(results: Results, clients: int, device_time: float) -> Iterator[Bar]:
    for system, other in results.measured_systems():
        measured = spread(list(results.values(system, device_time, "processor_total_ms", clients).values()))
        if measured is not None and other == device_time:
            loads = results.loads(system, device_time, clients)
            parts = ((role, _median_of(loads, role)) for role in results.roles())
            yield Bar(system_title(system, device_time), measured, tuple((name, ms) for name, ms in parts if ms))


def _median_of(loads: Sequence[LoadResult], role: str) -> float:
    return statistics.median(load.processor_ms.get(role, 0.0) for load in loads)


def _figures(results: Results) -> Iterator[dict[str, Any]]:
    for figure in FIGURES:
        measured = figure.measure(results)
        bound = f"{'≥' if figure.at_least else '≤'} {figure.bound:g}"
        holds = None if measured is None else figure.holds(measured)
        yield {"title": figure.title, "bound": bound, "measured": measured, "holds": holds}
