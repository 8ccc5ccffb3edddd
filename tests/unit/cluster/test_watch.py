"""When a cluster is lost that others have started."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ascend_serve.cluster import watch
from ascend_serve.cluster.watch import ClusterWatch, GivenClusterLoss
from ascend_serve.errors import ClusterError
from tests.patience import PATIENCE_SECONDS

SOON = 0.2


class Sockets:
    """Where a cluster listens: its control service, and the raylet of this machine."""

    def __init__(self, folder: Path) -> None:
        self.gcs = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.gcs.getsockname()[1]}"
        self.path = str(folder / "raylet")
        self.raylet = socket.socket(socket.AF_UNIX)
        self.raylet.bind(self.path)
        self.raylet.listen()

    def loss(self, patience: float) -> GivenClusterLoss:
        return GivenClusterLoss(self.address, self.path, patience)


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[Sockets]:
    there = Sockets(tmp_path)
    yield there
    there.gcs.close()
    there.raylet.close()


def test_a_cluster_that_is_there_is_not_lost(sockets: Sockets) -> None:
    assert sockets.loss(SOON)() is None


def test_looking_is_no_connection_to_the_raylet(sockets: Sockets) -> None:
    sockets.raylet.setblocking(False)
    assert sockets.loss(SOON)() is None
    with pytest.raises(BlockingIOError):
        sockets.raylet.accept()


def test_a_raylet_of_another_network_namespace_is_asked(sockets: Sockets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_SOCKETS", Path("/proc/no-such-file"))
    assert sockets.loss(SOON)() is None


def test_a_raylet_never_comes_back(sockets: Sockets) -> None:
    sockets.raylet.close()
    error = sockets.loss(PATIENCE_SECONDS)()
    assert error is not None
    assert "(raylet) has ended" in error.problem
    assert "ray start" in error.remedy


def test_a_control_service_may_come_back_in_its_time(sockets: Sockets) -> None:
    find = sockets.loss(PATIENCE_SECONDS)
    sockets.gcs.close()
    assert find() is None
    host, port = sockets.address.split(":")
    sockets.gcs = socket.create_server((host, int(port)))
    assert find() is None


def test_a_control_service_that_stays_away_is_a_loss(sockets: Sockets) -> None:
    find = sockets.loss(SOON)
    sockets.gcs.close()
    assert find() is None
    time.sleep(2 * SOON)
    error = find()
    assert error is not None
    assert "(GCS) has not been there for 0.2 s" in error.problem
    assert "RAY_gcs_rpc_server_reconnect_timeout_s" in error.remedy


def test_a_control_service_that_came_back_gets_its_time_anew(sockets: Sockets) -> None:
    find = sockets.loss(SOON)
    host, port = sockets.address.split(":")
    for _ in range(2):
        sockets.gcs.close()
        assert find() is None
        sockets.gcs = socket.create_server((host, int(port)))
        time.sleep(2 * SOON)
        assert find() is None


def test_a_loss_is_told_once() -> None:
    told = threading.Semaphore(0)
    watching = ClusterWatch(lambda: ClusterError("lost"), lambda error: told.release())
    assert told.acquire(timeout=PATIENCE_SECONDS)
    watching.stop()
    assert not told.acquire(blocking=False)
