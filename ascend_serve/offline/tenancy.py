"""The engines for offline generation that are open in this process: what they hold, and who ends their cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from ascend_serve.cluster.connect import Cluster, node_offers
from ascend_serve.cluster.placement import counted
from ascend_serve.cluster.watch import OnLoss
from ascend_serve.errors import ClusterError


@dataclass(frozen=True, slots=True, eq=False)
class _Tenant:
    """One open engine.

    Attributes:
        name: The model's name.
        npus: NPUs that it holds.
        lease: What ends the cluster, where this engine is the one to do it.
        on_loss: What to do when the cluster is lost.
    """

    name: str
    npus: int
    lease: ExitStack
    on_loss: OnLoss


_tenants: list[_Tenant] = []


@contextlib.contextmanager
def tenancy(name: str, npus: int, cluster: AbstractContextManager[Cluster], on_loss: OnLoss) -> Iterator[Cluster]:
    """Hold NPUs of a cluster for as long as the block runs.

    A cluster that was started for one engine may have room for others of this process; the last one ends it.

    Args:
        name: The model's name.
        npus: How many NPUs.
        cluster: What connects to the cluster or starts it; it tells `lose` when the cluster is lost.
        on_loss: What to do when the cluster is lost, also one that was started for another engine.

    Raises:
        ClusterError: Other engines of this process hold the NPUs; they are named, and nothing is waited for.
    """
    with ExitStack() as lease:
        connected = lease.enter_context(cluster)
        _check_room(name, npus, sum(offer.npus for offer in node_offers()))
        tenant = _Tenant(name, npus, lease, on_loss)
        _tenants.append(tenant)
        try:
            yield connected
        finally:
            _tenants.remove(tenant)
            if _tenants:
                _tenants[0].lease.push(lease.pop_all())


def lose(error: ClusterError) -> None:
    """Let all engines know that their cluster is lost."""
    for tenant in list(_tenants):
        tenant.on_loss(error)


def _check_room(name: str, npus: int, offered: int) -> None:
    """What does not fit on an empty cluster is told with its arithmetic elsewhere."""
    held = sum(tenant.npus for tenant in _tenants)
    if held and offered - held < npus <= offered:
        others = ", ".join(f"{tenant.name} ({tenant.npus})" for tenant in _tenants)
        raise ClusterError(
            f"{name} needs {counted(npus, 'NPU')}, but of the cluster's {offered} this process holds {held} with "
            f"engines that are still open: {others}",
            "Close them first (leave their `with` blocks, or call close()), or use a cluster with more NPUs.",
        )
