"""The Ray cluster that a command works on: the one it was given, or one of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import ray

from ascend_serve.cluster.connect import Cluster, connected_cluster, current_cluster
from ascend_serve.cluster.local import local_cluster
from ascend_serve.cluster.watch import OnLoss


def is_given() -> bool:
    """Whether there is a cluster to work on, so that none has to be started."""
    return ray.is_initialized() or bool(os.environ.get("RAY_ADDRESS"))


def ray_cluster(
    npus: int,
    *,
    env: Mapping[str, str],
    verbose: bool = False,
    dashboard: bool = False,
    on_loss: OnLoss | None = None,
) -> AbstractContextManager[Cluster]:
    """The cluster that this process is connected to, else the one at ``RAY_ADDRESS``, else a local one of its own.

    Args:
        npus: Emulated NPUs that a local cluster offers; 0 lets Ray find the real ones.
        env: Variables for the processes that are started on it.
        verbose: Whether their logs are shown here.
        dashboard: Whether a local cluster starts Ray's dashboard.
        on_loss: What to do when a cluster is lost that is started or connected to here; see `local_cluster`.

    Raises:
        ClusterError: It cannot be reached, or does not start.
    """
    if ray.is_initialized():
        return nullcontext(current_cluster())
    if address := os.environ.get("RAY_ADDRESS"):
        return connected_cluster(address, verbose=verbose, on_loss=on_loss)
    return local_cluster(npus, env=env, verbose=verbose, dashboard=dashboard, on_loss=on_loss)
