"""Watches over what a cluster cannot do without, and Ray does not start again when it ends."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import ray

from ascend_serve.errors import ClusterError
from ascend_serve.graph.death import death_by_exit_code

OnLoss = Callable[[ClusterError], None]
"""What to do when the cluster is lost, told why; runs in a thread of its own, because others may wait for Ray."""

FindLoss = Callable[[], ClusterError | None]
"""Tells why a cluster is lost; ``None`` while it is not."""

_GCS, _RAYLET = "Ray's control service (GCS)", "Ray's manager of this machine (raylet)"
_VITAL = {"gcs_server": _GCS, "raylet": _RAYLET}
"""Ray's names (2.60.0) of the processes that a cluster of one machine cannot do without, and what they are.

Without the first, Ray lets 60 seconds pass and then ends this process; without the second everything waits for ever.
"""

_SOCKETS = Path("/proc/net/unix")
_LISTENING = " 00010000 "
"""Among a socket's flags there (``__SO_ACCEPTCON``); proc(5)."""

_LOOK_SECONDS = 0.5
_CONNECT_SECONDS = 3.0

_RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"
"""Ray's variable: how long its processes wait for a control service to come back. KubeRay sets it where one does."""
_PATIENCE_SECONDS = 8.0
"""The same where that variable is not set, and the control service keeps what it knows in its memory alone."""


class ClusterWatch:
    """Looks after the cluster that this process is on, until `stop`.

    Args:
        find_loss: Asked twice a second.
        on_loss: What to do when the cluster is lost.
    """

    def __init__(self, find_loss: FindLoss, on_loss: OnLoss) -> None:
        self._find_loss = find_loss
        self._on_loss = on_loss
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="cluster-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer; waits for ``on_loss`` if that has begun."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            error = self._find_loss()
            if error is not None and not self._stopped.is_set():
                self._on_loss(error)
                return


@contextlib.contextmanager
def watched(find_loss: FindLoss, on_loss: OnLoss | None) -> Iterator[None]:
    """Watch while the block runs, where somebody wants to know of a loss."""
    watch = None if on_loss is None else ClusterWatch(find_loss, on_loss)
    try:
        yield
    finally:
        if watch is not None:
            watch.stop()


def own_loss(processes: Mapping[str, subprocess.Popen[bytes]], logs: Path) -> FindLoss:
    """How the cluster that this process has started is lost.

    Args:
        processes: The processes that may not end, by Ray's names.
        logs: Where they log.
    """

    def find() -> ClusterError | None:
        for name, process in processes.items():
            if (code := process.poll()) is not None:
                death = death_by_exit_code(code, _VITAL[name])
                return ClusterError(
                    f"The local Ray cluster is lost: {death.text}, and Ray starts no other",
                    f"Start again; what it logged is in {logs}/{name}.out and .err. {death.advice}",
                )
        return None

    return find


def vital_processes() -> dict[str, subprocess.Popen[bytes]]:
    """The processes of the cluster that this process has started which may not end; private names of Ray 2.60.0."""
    started = ray._private.worker._global_node.all_processes
    return {name: started[name][0].process for name in _VITAL}


class GivenClusterLoss:
    """How a cluster is lost that others have started: its control service, or this machine's raylet, listens no more.

    Args:
        address: Of the control service, ``host:port``.
        raylet: Path of the raylet's socket.
        patience: Seconds for which the control service may be away: where it keeps what it knows, it comes back.
    """

    def __init__(self, address: str, raylet: str, patience: float) -> None:
        host, _, port = address.rpartition(":")
        self._address = address
        self._gcs = (host.strip("[]"), int(port))
        self._raylet = raylet
        self._patience = patience
        self._away_since: float | None = None

    def __call__(self) -> ClusterError | None:
        """Look once."""
        if not _listens_at(self._raylet):
            return ClusterError(
                f"This machine is no part of the Ray cluster at {self._address} any more: {_RAYLET} has ended",
                "Start the node again (`ray start`), then this command. `ray status` shows the cluster, `serve status` "
                "whether an application goes on without this machine.",
            )
        if _listens(*self._gcs):
            self._away_since = None
            return None
        self._away_since = self._away_since or time.monotonic()
        return self._given_up() if time.monotonic() - self._away_since >= self._patience else None

    def _given_up(self) -> ClusterError:
        return ClusterError(
            f"The Ray cluster at {self._address} is lost: {_GCS} has not been there for {self._patience:g} s",
            "Start the cluster again, then this command. Where another control service takes its place and knows what "
            f"it knew (Redis), set {_RECONNECT} to the seconds that this may take.",
        )


def given_loss(address: str) -> FindLoss:
    """How the cluster is lost that this process has connected to; private names of Ray 2.60.0.

    Args:
        address: Of its control service.
    """
    raylet = str(ray._private.worker._global_node.raylet_socket_name)
    return GivenClusterLoss(address, raylet, float(os.environ.get(_RECONNECT) or _PATIENCE_SECONDS))


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _listens_at(path: str) -> bool:
    """Whether somebody listens at a socket of this machine; one that is only slow does.

    Linux tells without a connection, which a raylet would write into its log; but not across network namespaces, as
    when containers share the folder of the socket.
    """
    return _is_listed(path) or _accepts(path)


def _is_listed(path: str) -> bool:
    with contextlib.suppress(OSError), _SOCKETS.open(errors="replace") as lines:
        return any(_LISTENING in line and line.rstrip("\n").endswith(f" {path}") for line in lines)
    return False


def _accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_CONNECT_SECONDS)
        try:
            client.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True
