"""``ascend-serve logs``: the end of the right log, wherever it is in the cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from ascend_serve.cli.output import stdout
from ascend_serve.cluster.token import prefer_token_authentication
from ascend_serve.errors import ClusterError
from ascend_serve.telemetry.replica_status import DeploymentStatus, ReplicaStatus

_LINES = 100


def logs(
    name: Annotated[str, typer.Argument(help="Name of the deployment, as ascend-serve status shows it.")],
    rank: Annotated[
        int | None,
        typer.Option(min=0, help="A rank; without it the log of the replica with its engine core.", show_default=False),
    ] = None,
    lines: Annotated[int, typer.Option(min=1, help="How many lines, from the end.")] = _LINES,
) -> None:
    """Show the end of the logs of a deployment's replicas, or of one of their ranks, from the nodes where they are."""
    prefer_token_authentication()
    from ascend_serve.cluster.connect import running_cluster
    from ascend_serve.serving.cluster_status import cluster_status

    with running_cluster():
        deployment = _named(name, cluster_status().deployments)
        for replica in deployment.replicas:
            _show(replica, rank, lines)


def _named(name: str, deployments: tuple[DeploymentStatus, ...]) -> DeploymentStatus:
    for deployment in deployments:
        if deployment.name == name and any(replica.report for replica in deployment.replicas):
            return deployment
    names = ", ".join(deployment.name for deployment in deployments) or "none"
    raise ClusterError(
        f"No replica of a deployment {name} answers; deployments of this cluster: {names}",
        f"`ascend-serve report {name}` shows its last start, as far as it is kept on this machine.",
    )


def _show(replica: ReplicaStatus, rank: int | None, lines: int) -> None:
    """Print the end of one log.

    Raises:
        ClusterError: There is no such rank, or its log cannot be read.
    """
    from ascend_serve.cluster.logs import end_of_log

    if replica.report is None:
        stdout.print(f"== replica {replica.replica}: it starts, and tells nothing yet", markup=False)
        return
    whose, pid, node = f"replica {replica.replica}", replica.pid, replica.node
    if rank is not None:
        found = {state.rank: state for state in replica.report.ranks}.get(rank)
        if found is None:
            raise ClusterError(f"Replica {replica.replica} has ranks 0 to {len(replica.report.ranks) - 1}, not {rank}")
        whose, pid, node = f"rank {rank} of replica {replica.replica}", found.pid, found.node
    for part in end_of_log(pid, node):
        stdout.print(f"== {whose}, process {pid} on {node}: {part.path}", markup=False)
        for line in part.lines[-lines:]:
            typer.echo(line)
