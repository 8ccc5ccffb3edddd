"""``ascend-serve report``: the last start of a deployment, phase by phase, from a replica or from its event file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from ascend_serve.cli.output import print_warning, stdout
from ascend_serve.cli.summary import print_summary
from ascend_serve.cluster.token import prefer_token_authentication
from ascend_serve.errors import ClusterError, EventFileError
from ascend_serve.events import Event
from ascend_serve.telemetry.event_log import SUFFIX, event_folder, latest_file, read_events
from ascend_serve.telemetry.event_reference import reference
from ascend_serve.telemetry.story import Story

_BAR = 32


def report(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FILE]",
            help="Name of a deployment, or a file of events; by default the last start on this machine.",
            show_default=False,
        ),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print what GET /graph/report answers.")] = False,
    print_reference: Annotated[bool, typer.Option("--reference", help="Print the reference of all events.")] = False,
) -> None:
    """Show the last start of a deployment phase by phase, what holds on its ranks, and what was given up and why.

    A running deployment is asked; of one that ended, or that starts on this machine, the file of its events is read.
    """
    if print_reference:
        typer.echo(reference(), nl=False)
        return
    for events in _sources(source):
        story = Story.of(events)
        if json_output:
            typer.echo(story.report(events).model_dump_json(indent=2))
        else:
            show(story)


def _sources(source: str | None) -> list[Sequence[Event]]:
    """The events of each replica that is meant.

    Raises:
        EventFileError: There is no such file, or it holds none.
        ClusterError: Nothing of that name runs, nor ran on this machine.
    """
    if source is not None and (source.endswith(SUFFIX) or Path(source).is_file()):
        return [list(read_events(Path(source)))]
    answers = [] if source is None else _running(source)
    return list(answers) or [_kept(source)]


def _running(name: str) -> Sequence[Sequence[Event]]:
    """What replicas of a running deployment tell; nothing where there is none, or where it starts."""
    prefer_token_authentication()
    from ascend_serve.cluster.connect import running_cluster
    from ascend_serve.serving.cluster_status import replica_events

    try:
        with running_cluster():
            return replica_events(name)
    except ClusterError:
        return []


def _kept(name: str | None) -> Sequence[Event]:
    file = latest_file(name)
    if file is None:
        what = "starts" if name is None else f"start of {name}"
        raise EventFileError(
            f"No replica of {name} answers, and {event_folder()} holds no {what}"
            if name
            else f"{event_folder()} holds no {what}",
            "Files of events are on the node of the replica: give the name of one.",
        )
    print_warning(f"As kept in {file}; nothing of it was asked.")
    return list(read_events(file))


def show(story: Story) -> None:
    """Print a start: what holds, its phases, and what changed the plan."""
    print_summary(stdout, story.report())
    stdout.print(_timeline(story))
    if story.steps:
        stdout.print(_steps(story))


def _timeline(story: Story) -> Table:
    spans = story.timeline.spans
    table = Table(title="last start", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("phase", "seconds", ""):
        table.add_column(heading, justify="right" if heading == "seconds" else "left", no_wrap=True)
    whole = sum(span.seconds for span in spans) or 1.0
    passed = 0.0
    for span in spans:
        indent = round(_BAR * passed / whole)
        passed += span.seconds
        table.add_row(
            span.name, f"{span.seconds:.1f}", " " * indent + "█" * max(1, round(_BAR * passed / whole) - indent)
        )
    table.add_row("total", f"{passed:.1f}", "" if story.timeline.since is None else "and it goes on")
    return table


def _steps(story: Story) -> Table:
    table = Table(title="what happened", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("time", "event", ""):
        table.add_column(heading, overflow="fold", no_wrap=heading != "")
    for step in story.steps:
        moment = time.strftime("%H:%M:%S", time.localtime(step.time))
        table.add_row(moment, step.kind.replace("_", " "), escape(step.text))
    return table
