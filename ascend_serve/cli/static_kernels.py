"""``ascend-serve static-kernels``: whether static kernels are active, told from the profiler's statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ascend_serve.cli.output import stdout
from ascend_serve.telemetry.op_statistic import OpStatistic, find_statistics, read_statistic


def static_kernels(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...", help="op_statistic.csv files, or folders of the profiler.", show_default=False
        ),
    ],
) -> None:
    """Tell whether static kernels are active in each profile: which operators, their share of calls and time.

    Exits with 0 when they are active in all profiles, with 1 when they are not, with 2 when a file cannot be read.
    """
    statistics = [read_statistic(path) for path in find_statistics(paths)]
    for statistic in statistics:
        _show(statistic)
    inactive = [str(statistic.path) for statistic in statistics if not statistic.static]
    if inactive:
        stdout.print(
            "Not active: graph.npugraph_ex.static_kernel has to be true, in mode FULL or FULL_DECODE_ONLY; "
            "`ascend-serve serve` then says that static kernels compile."
        )
    raise typer.Exit(code=1 if inactive else 0)


def _show(statistic: OpStatistic) -> None:
    name = escape(str(statistic.path))
    if not statistic.static:
        stdout.print(f"[bold red]not active[/] {name}: none of {len(statistic.operators)} operators")
        return
    stdout.print(
        f"[green]active[/] {name}: {len(statistic.static)} of {len(statistic.operators)} operators, "
        f"{statistic.share_of_calls:.1%} of calls, {statistic.share_of_time:.1%} of time"
    )
    stdout.print(_table(statistic))


def _table(statistic: OpStatistic) -> Table:
    table = Table("operator", "calls", "time us")
    for operator in statistic.static:
        table.add_row(escape(operator.name), str(operator.calls), f"{operator.time:.1f}")
    return table
