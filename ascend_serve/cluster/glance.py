"""What a cluster offers, found out without staying connected to it."""

from __future__ import annotations

import os

import ray

from ascend_serve.cluster.connect import connected_cluster, node_offers
from ascend_serve.cluster.placement import NodeOffer
from ascend_serve.errors import ClusterError


def offers_at(address: str | None = None) -> list[NodeOffer] | None:
    """What the nodes offer of the cluster that this process is connected to, or would be connected to.

    Args:
        address: The cluster to look at where this process is connected to none; ``RAY_ADDRESS``, or one that runs on
            this machine, when not given.

    Returns:
        ``None`` where no cluster is named, and none runs on this machine that lets us in.

    Raises:
        ClusterError: The cluster that was named cannot be reached, or does not let us in.
    """
    if ray.is_initialized():
        return node_offers()
    named = address or os.environ.get("RAY_ADDRESS")
    try:
        with connected_cluster(named or "auto"):
            return node_offers()
    except ClusterError:
        if named:
            raise
        return None
