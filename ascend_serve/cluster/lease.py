"""The Ray cluster that a command works on: the one it was given, or one of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager

from ascend_serve.cluster.connect import Cluster, connected_cluster
from ascend_serve.cluster.local import local_cluster


def ray_cluster(
    npus: int, *, env: Mapping[str, str], verbose: bool = False, dashboard: bool = False
) -> AbstractContextManager[Cluster]:
    """Connect to the cluster at ``RAY_ADDRESS``, or start a local one when the variable is not set.

    Args:
        npus: Emulated NPUs that a local cluster offers; 0 lets Ray find the real ones.
        env: Variables for the processes that are started on it.
        verbose: Whether their logs are shown here.
        dashboard: Whether a local cluster starts Ray's dashboard.

    Raises:
        ClusterError: It cannot be reached, or does not start.
    """
    if address := os.environ.get("RAY_ADDRESS"):
        return connected_cluster(address, env=env, verbose=verbose)
    return local_cluster(npus, env=env, verbose=verbose, dashboard=dashboard)
