"""Which cluster of this machine a command means, and which are on the loopback interface alone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
import pytest
from ray._private import services

from ascend_serve.cluster import connect
from ascend_serve.cluster.connect import _check_reachable, _is_on_loopback, running_address
from ascend_serve.errors import ClusterError

OURS, STARTED = "127.0.0.1:40000", "192.0.2.2:6379"


@pytest.mark.parametrize(
    ("running", "address", "expected"),
    [
        pytest.param({OURS}, "auto", True, id="the one that runs"),
        pytest.param({OURS}, OURS, True, id="the one that runs, by its address"),
        pytest.param({STARTED}, "auto", False, id="one of ray start"),
        pytest.param({STARTED}, "127.0.0.1:6379", False, id="one of ray start, by a name of this machine"),
        pytest.param({OURS, STARTED}, "auto", False, id="both, of which Ray takes the one of ray start"),
        pytest.param({OURS, STARTED}, OURS, True, id="both, by the address"),
        pytest.param(set(), "auto", False, id="none"),
    ],
)
def test_a_cluster_is_known_by_what_runs(
    running: set[str], address: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "find_gcs_addresses", lambda: frozenset(running))
    assert _is_on_loopback(address) is expected


GONE = "192.0.2.2:6380"


def found(monkeypatch: pytest.MonkeyPatch, running: set[str], latest: str | None) -> None:
    """Have Ray find these clusters."""
    monkeypatch.setattr(services, "find_gcs_addresses", lambda: frozenset(running))
    monkeypatch.setattr(services, "find_bootstrap_address", lambda folder: latest)


@pytest.mark.parametrize(
    ("running", "latest", "meant"),
    [
        pytest.param({OURS}, None, OURS, id="the one that runs"),
        pytest.param({OURS}, GONE, OURS, id="the one that runs, after another one was killed"),
        pytest.param({OURS, STARTED}, STARTED, STARTED, id="the latest of two"),
    ],
)
def test_the_cluster_that_is_meant(
    monkeypatch: pytest.MonkeyPatch, running: set[str], latest: str | None, meant: str
) -> None:
    found(monkeypatch, running, latest)
    assert running_address() == meant


@pytest.mark.parametrize(
    ("running", "latest", "text"),
    [
        pytest.param(set(), GONE, "No Ray cluster runs on this machine", id="none"),
        pytest.param(
            {OURS, STARTED},
            GONE,
            f"on this machine: {OURS}, {STARTED}",
            id="two, the latest is gone",
        ),
        pytest.param({OURS, STARTED}, None, "Several Ray clusters", id="two of unknown age"),
    ],
)
def test_where_none_is_meant_that_is_an_error(
    monkeypatch: pytest.MonkeyPatch, running: set[str], latest: str | None, text: str
) -> None:
    found(monkeypatch, running, latest)
    with pytest.raises(ClusterError, match=text):
        running_address()


@pytest.fixture
def silent() -> Iterator[str]:
    """Something that lets everybody connect and never answers, as a control service that is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def web() -> Iterator[str]:
    """A server that got the port of a cluster that has ended."""
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def control_service() -> Iterator[str]:
    """A server of gRPC, which Ray's control service is."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "_ANSWER_SECONDS", 0.5)


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize("address", ["silent", "web"])
@pytest.mark.parametrize("auto", [False, True], ids=["by its address", "by auto"])
def test_a_stale_address_is_refused_where_something_else_listens_now(
    address: str, auto: bool, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = request.getfixturevalue(address)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    found(monkeypatch, set(), stale)
    with pytest.raises(ClusterError, match=f"{stale}.*has not answered within 0.5 s"):
        _check_reachable("auto" if auto else stale)


def test_a_control_service_that_answers_is_none(control_service: str) -> None:
    _check_reachable(control_service)
