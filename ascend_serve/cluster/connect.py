"""Connecting to a Ray cluster that is already there."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import grpc
import ray
from ray._private import ray_constants, services
from ray._private.grpc_utils import init_grpc_channel

from ascend_serve.cluster.placement import NodeOffer, offers
from ascend_serve.cluster.signals import own_signals
from ascend_serve.cluster.watch import OnLoss, given_loss, watched
from ascend_serve.errors import ClusterError

NAMESPACE = "ascend_serve"
"""Ray namespace of our named actors."""

_REACH_SECONDS = 5.0

_ANSWER_SECONDS = 20.0
"""How long a control service may take to answer on a busy machine."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The Ray cluster that a command works on.

    Attributes:
        address: Address of its control service (GCS), ``host:port``.
        log_directory: Where the processes on this node log.
        local: Whether the command started it.
        dashboard: Address of Ray's dashboard, where one runs.
    """

    address: str
    log_directory: Path
    local: bool
    dashboard: str | None = None


@contextlib.contextmanager
def connected_cluster(address: str, *, verbose: bool = False, on_loss: OnLoss | None = None) -> Iterator[Cluster]:
    """Connect to the Ray cluster at ``address`` and leave it at the end.

    Args:
        address: As in ``RAY_ADDRESS``: ``host:port`` or ``auto``.
        verbose: Whether logs of this job's processes are shown here.
        on_loss: What to do when the cluster is lost meanwhile, after which whoever waits for Ray waits for long.

    Raises:
        ClusterError: It cannot be reached, or does not let us in.
    """
    _check_reachable(address)
    try:
        with own_signals(), on_loopback() if _is_on_loopback(address) else contextlib.nullcontext():
            ray.init(
                address=address,
                namespace=NAMESPACE,
                log_to_driver=verbose,
                logging_level=logging.INFO if verbose else logging.CRITICAL,
            )
    except Exception as error:
        raise _refused(address, error) from error
    cluster = current_cluster()
    try:
        with watched(given_loss(cluster.address), on_loss):
            yield cluster
    finally:
        ray.shutdown()


@contextlib.contextmanager
def on_loopback() -> Iterator[None]:
    """Let Ray (2.60.0) call this machine 127.0.0.1 in the block, as it does on Windows and macOS.

    It reads its variable for that when it is imported: processes that are started do, and this one has.
    """
    with patch.object(ray_constants, "ENABLE_RAY_CLUSTER", False):
        yield


def _is_on_loopback(address: str) -> bool:
    """Whether ``address`` is that of a cluster of this machine that was started with `on_loopback`."""
    running = services.find_gcs_addresses()
    meant = running if address == "auto" else running & {address}
    return bool(meant) and all(each.startswith("127.") for each in meant)


@contextlib.contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Connect to the cluster at ``RAY_ADDRESS``, or to one that runs on this machine.

    Raises:
        ClusterError: There is none, or it does not let us in.
    """
    with connected_cluster(os.environ.get("RAY_ADDRESS") or running_address()) as cluster:
        yield cluster


def running_address() -> str:
    """The address of the cluster that runs on this machine; of several, of the one that Ray started last.

    Ray's ``auto`` (2.60.0) takes what was started last for running where there are several, also when it was killed.

    Raises:
        ClusterError: None does, or there are several and none of them is the latest that Ray knows.
    """
    running = services.find_gcs_addresses()
    if not running:
        raise ClusterError(
            "No Ray cluster runs on this machine, and RAY_ADDRESS names no other one",
            "Set RAY_ADDRESS to the cluster's, for example HEAD:6379.",
        )
    latest = services.find_bootstrap_address(None)
    if latest in running or len(running) == 1:
        return str(latest if latest in running else next(iter(running)))
    raise ClusterError(
        f"Several Ray clusters run on this machine: {', '.join(sorted(running))}",
        "Set RAY_ADDRESS to the address of the one that is meant.",
    )


def current_cluster() -> Cluster:
    """The cluster that this process is connected to."""
    context = ray.get_runtime_context()
    return Cluster(context.gcs_address, Path(context.get_temp_dir(), context.get_session_name(), "logs"), local=False)


def node_offers() -> list[NodeOffer]:
    """What the living nodes of the cluster that this process is connected to offer in total, whether taken or not."""
    return offers(ray.nodes())


def _check_reachable(address: str) -> None:
    """Refuse an address where no control service answers; Ray itself (2.60.0) would try for minutes."""
    if address == "auto":
        address = _meant_by_auto() or address
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "://" in address:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_SECONDS).close()
    except OSError as error:
        raise _refused(address, error) from error
    if not answers(address, _ANSWER_SECONDS):
        silent = f"what listens there has not answered within {_ANSWER_SECONDS:g} s as Ray's control service does"
        raise _refused(address, TimeoutError(silent))


def _meant_by_auto() -> str | None:
    """What Ray takes ``auto`` for, a cluster that has ended included; ``None`` where it knows of none."""
    with contextlib.suppress(ConnectionError):
        return str(services.get_ray_address_from_environment("auto", None))
    return None


def answers(address: str, patience: float) -> bool:
    """Whether a control service (GCS), or another server of gRPC, answers at an address.

    Args:
        address: ``host:port``.
        patience: Seconds that it may take.
    """
    channel = init_grpc_channel(address)
    try:
        grpc.channel_ready_future(channel).result(timeout=patience)
    except grpc.FutureTimeoutError:
        return False
    finally:
        channel.close()
    return True


def _refused(address: str, error: Exception) -> ClusterError:
    return ClusterError(
        f"The Ray cluster at {address} (RAY_ADDRESS) cannot be used: {error}",
        "`ray status` on its head node shows whether it runs. A cluster with token authentication needs its token "
        "here, in ~/.ray/auth_token or RAY_AUTH_TOKEN. Unset RAY_ADDRESS to start a local cluster instead.",
    )
