"""``ascend-serve report``: the last start of a deployment, phase by phase, from a replica or from its event file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from ascend_serve.cli.output import print_warning, stdout, write_file
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
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the page of GET /graph there.", show_default=False),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show the page of a start on this machine in a browser, while it goes on.")
    ] = False,
    print_reference: Annotated[
        bool, typer.Option("--reference", help="Print the reference of events and metrics.")
    ] = False,
) -> None:
    """Show the last start of a deployment phase by phase, what holds on its ranks, and what was given up and why.

    A running deployment is asked; of one that ended, or that starts on this machine, the file of its events is read.
    """
    if print_reference:
        typer.echo(reference(), nl=False)
        return
    if follow:
        _follow(source)
        return
    if html is not None:
        _write_page(html, source)
        return
    for events in _sources(source):
        story = Story.of(events)
        if json_output:
            typer.echo(story.report(events).model_dump_json(indent=2))
        else:
            show(story)


def _follow(source: str | None) -> None:
    """Serve the page of a file of events, until Ctrl-C."""
    from ascend_serve.telemetry.page_server import PageServer

    server = PageServer(Path(source) if source is not None and _is_file(source) else _kept_file(source))
    stdout.print(server.url, markup=False)
    server.serve()


def _write_page(file: Path, source: str | None) -> None:
    """Write the page of a replica that answers, or of the events that are kept.

    Raises:
        OutputFileError: The file cannot be written.
    """
    from ascend_serve.telemetry.page import GraphPage
    from ascend_serve.telemetry.page_view import page_view

    pages = _answers("page", source)
    if len(pages) > 1:
        print_warning(f"{len(pages)} replicas answer; the page is that of one of them.")
    if not pages:
        (events,) = _sources(source)
        pages = [GraphPage().whole(page_view(Story.of(events), now=events[-1].time))]
    write_file(file, pages[0], "--html")
    stdout.print(f"{file} has the page", markup=False)


def _sources(source: str | None) -> list[Sequence[Event]]:
    """The events of each replica that is meant, or of the last start that is kept.

    Raises:
        EventFileError: There is no such file, or it holds none; or nothing of that name ran on this machine.
    """
    if source is not None and _is_file(source):
        return [list(read_events(Path(source)))]
    return list(_answers("events", source)) or [_kept(source)]


def _is_file(source: str) -> bool:
    return source.endswith(SUFFIX) or Path(source).is_file()


def _answers(method: str, source: str | None) -> Sequence[Any]:
    """What replicas of a running deployment answer; nothing where a file is meant, or no replica answers."""
    if source is None or _is_file(source):
        return []
    prefer_token_authentication()
    from ascend_serve.cluster.connect import running_cluster
    from ascend_serve.serving.cluster_status import replica_answers

    try:
        with running_cluster():
            return replica_answers(method, source)
    except ClusterError:
        return []


def _kept(name: str | None) -> Sequence[Event]:
    file = _kept_file(name)
    print_warning(f"As kept in {file}; no replica was asked.")
    return list(read_events(file))


def _kept_file(name: str | None) -> Path:
    """The file of the last start on this machine.

    Raises:
        EventFileError: There is none.
    """
    file = latest_file(name)
    if file is None:
        where = f" of {name}, and no replica answers" if name else ""
        problem = f"{event_folder()} holds no events of a start{where}"
        raise EventFileError(problem, "They are on the node of the replica: give the name of a file.")
    return file


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
