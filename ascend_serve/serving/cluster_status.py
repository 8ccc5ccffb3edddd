"""What deployments there are on a cluster, whoever started them, and what each of their replicas says."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatusOverview, DeploymentStatusOverview

from ascend_serve.capture.client import glances
from ascend_serve.capture.outcome import OutcomeKind
from ascend_serve.capture.snapshot import Snapshot
from ascend_serve.config.serve_options import DEPLOYMENT
from ascend_serve.errors import ClusterError
from ascend_serve.replica.start_failure import said
from ascend_serve.serving.replica_watch import REPLICA_PREFIX
from ascend_serve.telemetry.replica_status import ClusterStatus, DeploymentStatus, ReplicaStatus

logging.getLogger("ray.serve").setLevel(logging.WARNING)

_ANSWER_SECONDS = 10.0
_RUNNING: Any = "RUNNING"
"""Serve's state of a replica that answers; a text as well as a member of an enumeration."""
_OURS = re.compile(rf"{DEPLOYMENT}(_\d+)?")
"""Our deployments: Ray Serve (2.60.0) numbers those of one name in an application, all but the first."""


def cluster_status() -> ClusterStatus:
    """All deployments of the cluster that this process is connected to.

    An application that Ray Serve builds, or could not build, has no deployments yet: it may become one of ours.
    """
    groups = dict(glances())
    starting = _replica_ids()
    found = []
    for application, status in sorted(serve.status().applications.items()):
        for deployment in _engines(status):
            ids = starting.get((application, deployment), ())
            found.append(_deployment(application, deployment, status, ids, groups))
        if not status.deployments:
            found.append(DeploymentStatus(name=application, state=status.status.value, message=said(status.message)))
    offline = [_offline(group, snapshot) for group, snapshot in groups.items()]
    return ClusterStatus(deployments=(*found, *offline))


def replica_answers(method: str, name: str) -> list[Any]:
    """What each replica of a deployment answers; nothing while none does.

    Args:
        method: Of `EngineReplica`.
        name: As `cluster_status` names it.

    Raises:
        ClusterError: There is no such deployment.
    """
    for application, status in serve.status().applications.items():
        for deployment, overview in _engines(status).items():
            if _shown(application, deployment) == name:
                return _asked(method, application, deployment, overview)
    raise ClusterError(
        f"The Ray cluster has no deployment {name}",
        "`ascend-serve status` lists those that there are.",
    )


def _engines(application: ApplicationStatusOverview) -> dict[str, DeploymentStatusOverview]:
    """Our deployments in an application, which may have others too."""
    return {name: status for name, status in sorted(application.deployments.items()) if _OURS.fullmatch(name)}


def _shown(application: str, deployment: str) -> str:
    return application if deployment == DEPLOYMENT else f"{application}/{deployment}"


def _deployment(
    application: str,
    deployment: str,
    status: ApplicationStatusOverview,
    ids: Sequence[str],
    groups: dict[str, Snapshot],
) -> DeploymentStatus:
    overview = status.deployments[deployment]
    replicas: list[ReplicaStatus] = _asked("status", application, deployment, overview)
    told = {replica.replica for replica in replicas}
    for replica in ids:
        # Groups of replicas are named after these; those that are left belong to no application.
        own = [group for group in groups if replica in group]
        snapshots = [groups.pop(group) for group in own]
        if replica not in told:
            replicas.append(_starting(replica, snapshots[-1] if snapshots else None))
    return DeploymentStatus(
        name=_shown(application, deployment),
        state=status.status.value,
        message=said(status.message or overview.message),
        replicas=tuple(replicas),
    )


def _asked(method: str, application: str, deployment: str, overview: DeploymentStatusOverview) -> list[Any]:
    """What every replica that runs answers; nothing where one of them goes meanwhile."""
    if not overview.replica_states.get(_RUNNING):
        return []
    with contextlib.suppress(RayError, RayServeException, TimeoutError):
        answers: list[Any] = (
            serve.get_deployment_handle(deployment, application).broadcast(method).results(timeout_s=_ANSWER_SECONDS)
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


def _replica_ids() -> dict[tuple[str, str], list[str]]:
    """Ids of the replicas by application and deployment, also of those that start."""
    found: dict[tuple[str, str], list[str]] = {}
    for application, deployment, replica in _named_replicas():
        found.setdefault((application, deployment), []).append(replica)
    return found


def _named_replicas() -> Iterator[tuple[str, str, str]]:
    for actor in ray.util.list_named_actors(all_namespaces=True):
        application, _, rest = actor["name"].removeprefix(REPLICA_PREFIX).partition("#")
        deployment, _, replica = rest.partition("#")
        if actor["name"].startswith(REPLICA_PREFIX) and _OURS.fullmatch(deployment):
            yield application, deployment, replica
