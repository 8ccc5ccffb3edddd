"""``ascend-serve status``: every deployment of a cluster, whoever started it, and what each of its replicas does."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich import box
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ascend_serve.cli.output import stdout
from ascend_serve.cli.summary import OUTCOME_STYLES
from ascend_serve.cluster.token import prefer_token_authentication
from ascend_serve.telemetry.replica_status import ClusterStatus, DeploymentStatus, ReplicaLoad, ReplicaStatus

_REFRESH_SECONDS = 2.0
_COLUMNS = ("deployment", "replica", "state", "graphs", "ranks", "requests", "age")
_STATE_STYLES = {"serving": "green", "starting": "cyan", "restarting": "yellow"}


def status(
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Show it again every two seconds, until Ctrl-C.")
    ] = False,
) -> None:
    """Show all deployments of the cluster at RAY_ADDRESS, or of one that runs on this machine.

    Those that Ray Serve or a job started are among them, and engines of ascend-serve generate.
    """
    prefer_token_authentication()
    if json_output and watch:
        raise typer.BadParameter("give one of --json and --watch", param_hint="--watch")
    from ascend_serve.cluster.connect import running_cluster
    from ascend_serve.serving.cluster_status import cluster_status

    with running_cluster():
        if json_output:
            typer.echo(cluster_status().model_dump_json(indent=2))
        elif watch:
            with Live(console=stdout, auto_refresh=False) as live:
                while True:
                    live.update(status_table(cluster_status(), time.time()), refresh=True)
                    time.sleep(_REFRESH_SECONDS)
        else:
            stdout.print(status_table(cluster_status(), time.time()))


def status_table(told: ClusterStatus, now: float) -> RenderableType:
    """One row for each replica, and what Ray Serve says of a deployment that is not well.

    Args:
        told: What there is.
        now: Seconds since the epoch.
    """
    if not told.deployments:
        return Text("The cluster has no deployment.")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in _COLUMNS:
        table.add_column(heading, overflow="fold", no_wrap=heading in ("state", "ranks", "age"))
    messages = []
    for deployment in told.deployments:
        for replica in deployment.replicas or (None,):
            table.add_row(*(_nothing(deployment) if replica is None else _row(deployment, replica, now)))
        if deployment.message:
            messages.append(Text(f"{deployment.name}: {deployment.state}: {deployment.message}"))
    return Group(table, *messages)


def _nothing(deployment: DeploymentStatus) -> list[str]:
    return [escape(deployment.name), "none", deployment.state.lower(), *[""] * (len(_COLUMNS) - 3)]


def _row(deployment: DeploymentStatus, replica: ReplicaStatus, now: float) -> list[str]:
    style = _STATE_STYLES.get(replica.state, "")
    state = f"[{style}]{replica.state}[/]" if style else replica.state
    row = [escape(deployment.name), escape(replica.replica), state]
    report = replica.report
    if report is None:
        return [*row, escape(replica.detail), "", "", ""]
    outcome = f"[{OUTCOME_STYLES[report.outcome]}]{report.outcome}[/]"
    graphs = " ".join((outcome, report.runtime, report.effective_mode, *map(str, report.capture_sizes)))
    age = "" if replica.since is None else duration(now - replica.since)
    return [*row, graphs, str(len(report.ranks)), load_text(replica.load), age]


def load_text(load: ReplicaLoad) -> str:
    """What a replica has to do, in a few words."""
    if load.running is None:
        return ""
    return f"{load.running} run, {load.waiting or 0} wait"


def duration(seconds: float) -> str:
    """A time that has passed, with its two largest units at most."""
    whole = max(0, int(seconds))
    for size, unit, smaller, less in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {less}" if rest else "")
    return f"{whole} s"
