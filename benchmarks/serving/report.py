"""Prints what a run came to: medians of each system, and the figures."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from benchmarks.serving.figures import FIGURES
from benchmarks.serving.pairs import Spread, spread
from benchmarks.serving.results import Results, StartResult, system_title

METRICS = ("tokens_per_second", "ttft_p50_ms", "ttft_p99_ms", "tpot_p50_ms", "tpot_p99_ms", "processor_total_ms")
_HEADINGS = ("tokens/s", "TTFT p50", "p99", "TPOT p50", "p99 ms", "processor ms/token")


def print_results(console: Console, results: Results) -> None:
    """Print the tables."""
    console.print(_medians(results), _roles(results), _figures(results))


def one_line(start: StartResult) -> str:
    """What a start came to."""
    parts = [f"first token {start.start_seconds:.1f} s"] if start.start_seconds is not None else []
    for load in start.loads:
        parts.append(f"{load.measured.clients} clients {load.measured.tokens_per_second:.0f}/s")
        if load.measured.failed:
            parts.append(f"{load.measured.failed} FAILED: {load.measured.error}")
    return "; ".join([*parts, *([f"FAILED: {start.error}"] if start.error else [])])


def _medians(results: Results) -> Table:
    table = Table(title="medians over the rounds", title_justify="left")
    for heading in ("system", "clients", *_HEADINGS, "first token s", "load", "steal %", "rounds", "failed"):
        table.add_column(heading, justify="left" if heading == "system" else "right")
    for system, device_time in results.measured_systems():
        for clients in results.clients(system, device_time):
            rounds = results.values(system, device_time, "tokens_per_second", clients)
            values = [_median(spread(list(results.values(system, device_time, m, clients).values()))) for m in METRICS]
            start = _median(spread(list(results.values(system, device_time, "start_seconds").values())))
            loads = results.loads(system, device_time, clients)
            quiet = [
                _median(spread([getattr(load, name) for load in loads])) for name in ("load_average", "steal_percent")
            ]
            failed = str(sum(load.measured.failed for load in loads))
            title = system_title(system, device_time)
            table.add_row(title, str(clients), *values, start, *quiet, str(len(rounds)), failed)
    return table


def _roles(results: Results) -> Table:
    roles = results.roles()
    table = Table(title="processor ms per token by process, medians", title_justify="left")
    for heading in ("system", "clients", *roles, "load generator"):
        table.add_column(heading, justify="left" if heading == "system" else "right")
    for system, device_time in results.measured_systems():
        for clients in results.clients(system, device_time):
            loads = results.loads(system, device_time, clients)
            values = [_median(spread([load.processor_ms.get(role, 0.0) for load in loads])) for role in roles]
            client = _median(spread([load.client_processor_ms for load in loads]))
            table.add_row(system_title(system, device_time), str(clients), *values, client)
    return table


def _figures(results: Results) -> Table:
    table = Table("figure", "bound", "median", "low", "high", "rounds", "", title="figures", title_justify="left")
    for figure in FIGURES:
        measured = figure.measure(results)
        bound = f"{'>=' if figure.at_least else '<='} {figure.bound:g}"
        if measured is None:
            continue
        numbers = [f"{value:.2f}" for value in (measured.median, measured.low, measured.high)]
        holds = "[green]yes[/]" if figure.holds(measured) else "[red]NO[/]"
        table.add_row(figure.title, bound, *numbers, str(len(measured.values)), holds)
    return table


def _median(values: Spread | None) -> str:
    if values is None:
        return "-"
    return f"{values.median:.2f}" if values.median < 100 else f"{values.median:.0f}"
