"""``ascend-serve doctor``: what is wrong with this cluster, node by node, and how to fix it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ascend_serve.cli.arguments import OverrideArguments, described
from ascend_serve.cli.output import stderr, stdout
from ascend_serve.doctor.diagnosis import CheckResult, Diagnosis, diagnose
from ascend_serve.node.finding import Status

_COLOURS = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red"}


def doctor(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG]", help="What will be served; its model, placement and ports are checked too."),
    ] = None,
    overrides: OverrideArguments = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the nodes.")] = 60.0,
) -> None:
    """Check the Ray cluster of RAY_ADDRESS, or this machine, for all that keeps a deployment from working.

    Exits with 1 when a check fails; warnings leave it at 0.
    """
    loaded = described(config, overrides).load() if config is not None else None
    with stderr.status("looking at the nodes"):
        diagnosis = diagnose(loaded, timeout)
    if json_output:
        typer.echo(diagnosis.model_dump_json(indent=2))
    else:
        show(diagnosis)
    raise typer.Exit(code=1 if diagnosis.status is Status.FAIL else 0)


def show(diagnosis: Diagnosis) -> None:
    """Print one table for the cluster and one per node."""
    stdout.print(_table("cluster", diagnosis.cluster))
    for node in diagnosis.nodes:
        title = " ".join(part for part in ("node", node.address, node.hostname, node.node_id[:8]) if part)
        stdout.print(_table(title, node.lines))
    lines = [line for lines in (diagnosis.cluster, *(node.lines for node in diagnosis.nodes)) for line in lines]
    counts = {status: sum(line.status is status for line in lines) for status in Status}
    stdout.print(", ".join(f"[{_COLOURS[status]}]{count} {status}[/]" for status, count in counts.items()))


def _table(title: str, lines: Sequence[CheckResult]) -> Table:
    table = Table(title=escape(title), title_justify="left", expand=False)
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found", overflow="fold")
    table.add_column("fix", overflow="fold")
    for line in lines:
        colour = _COLOURS[line.status]
        table.add_row(line.check, f"[{colour}]{line.status}[/]", escape(line.text), escape(line.fix))
    return table
