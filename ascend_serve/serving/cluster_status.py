"""What deployments there are on a cluster, whoever started them, and what each of their replicas says."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatusOverview

from ascend_serve.capture.client import glances
from ascend_serve.capture.outcome import OutcomeKind
from ascend_serve.capture.snapshot import Snapshot
from ascend_serve.config.serve_options import DEPLOYMENT
from ascend_serve.errors import ClusterError
from ascend_serve.telemetry.replica_status import ClusterStatus, DeploymentStatus, ReplicaStatus

logging.getLogger("ray.serve").setLevel(logging.WARNING)

_ANSWER_SECONDS = 10.0
_RUNNING: Any = "RUNNING"
"""Serve's state of a replica that answers; a text as well as a member of an enumeration."""
_REPLICA_PREFIX = "SERVE_REPLICA::"
"""How Ray Serve (2.60.0) names the actor of a replica: this, application, deployment and id, with ``#`` between."""


def cluster_status() -> ClusterStatus:
    """All deployments of the cluster that this process is connected to."""
    groups = dict(glances())
    starting = _replica_ids()
    found = []
    for name, application in sorted(serve.status().applications.items()):
        if DEPLOYMENT in application.deployments:
            found.append(_deployment(name, application, starting.get(name, ()), groups))
    offline = [_offline(group, snapshot) for group, snapshot in groups.items()]
    return ClusterStatus(deployments=(*found, *offline))


def replica_answers(method: str, name: str) -> list[Any]:
    """What each replica of an application answers; nothing while none does.

    Args:
        method: Of `EngineReplica`.
        name: Name of the application.

    Raises:
        ClusterError: There is no such application.
    """
    application = serve.status().applications.get(name)
    if application is None or DEPLOYMENT not in application.deployments:
        raise ClusterError(
            f"The Ray cluster has no deployment {name}",
            "`ascend-serve status` lists those that there are.",
        )
    return _asked(method, name, application)


def _deployment(
    name: str, application: ApplicationStatusOverview, ids: Sequence[str], groups: dict[str, Snapshot]
) -> DeploymentStatus:
    replicas: list[ReplicaStatus] = _asked("status", name, application)
    told = {replica.replica for replica in replicas}
    for replica in ids:
        # Groups of replicas are named after these; those that are left belong to no application.
        own = [group for group in groups if replica in group]
        snapshots = [groups.pop(group) for group in own]
        if replica not in told:
            replicas.append(_starting(replica, snapshots[-1] if snapshots else None))
    return DeploymentStatus(
        name=name,
        state=application.status.value,
        message=application.message or application.deployments[DEPLOYMENT].message,
        replicas=tuple(replicas),
    )


def _asked(method: str, name: str, application: ApplicationStatusOverview) -> list[Any]:
    """What every replica that runs answers; nothing where one of them goes meanwhile."""
    if not application.deployments[DEPLOYMENT].replica_states.get(_RUNNING):
        return []
    with contextlib.suppress(RayError, RayServeException, TimeoutError):
        answers: list[Any] = (
            serve.get_deployment_handle(DEPLOYMENT, name).broadcast(method).results(timeout_s=_ANSWER_SECONDS)
        )
        return answers
    return []


def _starting(replica: str, snapshot: Snapshot | None) -> ReplicaStatus:
    return ReplicaStatus(replica=replica, state="starting", detail=progress_of(snapshot))


def _offline(group: str, snapshot: Snapshot) -> DeploymentStatus:
    state = "serving" if snapshot.outcome and snapshot.outcome.kind is OutcomeKind.SEALED else "starting"
    replica = ReplicaStatus(replica=group, state=state, detail=progress_of(snapshot))
    return DeploymentStatus(name=group, state="OFFLINE", replicas=(replica,))


def progress_of(snapshot: Snapshot | None) -> str:
    """How far a start is, in a few words."""
    if snapshot is None:
        return "loads"
    graphs = 0 if snapshot.plan is None else len(snapshot.plan.keys)
    done = min((rank.graphs for rank in snapshot.ranks), default=0)
    return f"{snapshot.phase}, {done} of {graphs} graphs on {len(snapshot.ranks)} ranks"


def _replica_ids() -> dict[str, list[str]]:
    """Ids of the replicas by application, also of those that start."""
    found: dict[str, list[str]] = {}
    for application, replica in _named_replicas():
        found.setdefault(application, []).append(replica)
    return found


def _named_replicas() -> Iterator[tuple[str, str]]:
    for actor in ray.util.list_named_actors(all_namespaces=True):
        application, _, rest = actor["name"].removeprefix(_REPLICA_PREFIX).partition("#")
        deployment, _, replica = rest.partition("#")
        if actor["name"].startswith(_REPLICA_PREFIX) and deployment == DEPLOYMENT:
            yield application, replica
