"""The configuration that Ray Serve writes for HAProxy, adapted: what listens where, and what HAProxy says of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from ray.serve._private.constants import SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER

from ascend_serve.serving.haproxy import haproxy_binary
from ascend_serve.serving.haproxy_config import (
    APPLICATION_WATCHES,
    ERROR_FILE,
    UNAVAILABLE,
    Listener,
    UnknownConfigurationError,
    adapted,
)
from tests.unit.serving.serves_haproxy import write_configuration

PORT = 8123


def adapted_file(folder: Path, listener: Listener, host: str = "127.0.0.1") -> Path:
    file = write_configuration(folder, PORT, 30000, host=host, fallback=8500)
    file.write_text(adapted(file.read_text(), listener))
    file.with_name(ERROR_FILE).write_text(UNAVAILABLE, newline="")
    return file


def binds(text: str) -> list[str]:
    return re.findall(r"^ *(?:bind|stats socket) (.*)$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("serves", "listener", "expected"),
    [
        pytest.param("127.0.0.1", Listener(), f"127.0.0.1:{PORT}", id="Serve's own host"),
        pytest.param("0.0.0.0", Listener(), f"*:{PORT}", id="Serve's own host, everywhere"),
        pytest.param("127.0.0.1", Listener("0.0.0.0"), f"0.0.0.0:{PORT}", id="clients from everywhere"),
        pytest.param("127.0.0.1", Listener("::1"), f"[::1]:{PORT}", id="IPv6"),
        pytest.param("127.0.0.1", Listener("::"), f"[::]:{PORT} v4v6", id="IPv6, everywhere"),
        pytest.param("127.0.0.1", Listener(certificate="tls.pem"), f"127.0.0.1:{PORT} ssl crt tls.pem", id="TLS"),
    ],
)
def test_clients_have_one_port_and_nothing_else_listens_on_the_network(
    serves: str, listener: Listener, expected: str, tmp_path: Path
) -> None:
    found = binds(adapted_file(tmp_path, listener, serves).read_text())
    assert [bind for bind in found if not bind.startswith("unix@")] == [expected]
    assert all(" mode 600" in bind for bind in found if bind.startswith("unix@"))


@pytest.mark.parametrize("is_kept", [False, True])
@pytest.mark.parametrize("certificate", [None, "tls.pem"])
def test_haproxy_takes_it(certificate: str | None, is_kept: bool, tmp_path: Path) -> None:
    file = adapted_file(tmp_path, Listener(certificate=certificate, is_kept=is_kept))
    if certificate is not None:
        make_certificate(file.with_name(certificate))
    done = subprocess.run(
        [haproxy_binary(), "-c", "-f", file], cwd=file.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "ALERT" not in done.stderr


def test_replicas_are_asked_as_they_listen(tmp_path: Path) -> None:
    servers = re.findall(r"^ *server .*$", adapted_file(tmp_path, Listener(certificate="x")).read_text(), re.MULTILINE)
    assert len(servers) == 2
    assert all(" ssl verify none check" in server for server in servers)


def test_who_sends_a_request_in_drops_is_not_waited_for(tmp_path: Path) -> None:
    lines = [line.strip() for line in adapted_file(tmp_path, Listener()).read_text().splitlines()]
    assert "timeout http-request 60s" in lines


def test_no_request_is_told_to_the_machines_syslog(tmp_path: Path) -> None:
    assert not re.search(r"^ *log 127", adapted_file(tmp_path, Listener()).read_text(), re.MULTILINE)


@pytest.mark.parametrize("missing", ["stats socket", "listen stats", "frontend prometheus", "errorfile", "httplog"])
def test_what_serve_does_not_write_is_no_reason_to_guess(missing: str, tmp_path: Path) -> None:
    text = write_configuration(tmp_path, PORT, 30000).read_text().replace(missing, "something else")
    with pytest.raises(UnknownConfigurationError):
        adapted(text, Listener())


@pytest.mark.parametrize(
    ("replicas", "watches"), [pytest.param((30000,), True, id="a replica"), pytest.param((), False, id="Serve's proxy")]
)
def test_only_a_replica_watches_for_clients_that_go(replicas: tuple[int, ...], watches: bool, tmp_path: Path) -> None:
    file = write_configuration(tmp_path, PORT, *replicas, fallback=8500)
    rule = f"http-request set-header {APPLICATION_WATCHES} ?1"
    assert (rule in adapted(file.read_text(), Listener())) is watches
    assert APPLICATION_WATCHES.lower() == SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER


@pytest.mark.parametrize("servers", [(), (30000,)], ids=["no application yet", "an application"])
def test_streams_go_by_the_keeper_where_there_is_one(servers: tuple[int, ...], tmp_path: Path) -> None:
    text = write_configuration(tmp_path, PORT, *servers).read_text()
    assert "stream_keeper" not in adapted(text, Listener())
    kept = adapted(text, Listener(is_kept=True))
    (public, own) = re.findall(r"^frontend http_frontend\n *bind (.*)\n *bind (.*)$", kept, re.MULTILINE)[0]
    assert public == f"127.0.0.1:{PORT} maxconn 2048"
    assert own == "unix@kept.sock mode 600 id 2"
    chosen = re.findall(r"^ *use_backend (\S+)", kept, re.MULTILINE)
    assert chosen == (["stream_keeper", "http-demo"] if servers else [])
    assert kept.count("http-request del-header") == (3 if servers else 0)


def test_clients_leave_places_for_the_keeper(tmp_path: Path) -> None:
    """Of the connections that Serve lets HAProxy have; without a number nobody can tell."""
    text = write_configuration(tmp_path, PORT, 30000).read_text()
    with pytest.raises(UnknownConfigurationError, match="maxconn"):
        adapted(text.replace("maxconn", "something"), Listener(is_kept=True))


def make_certificate(file: Path) -> None:
    make = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {file}.k -out {file}.c -subj /CN=localhost"
    subprocess.run(make.split(), check=True, capture_output=True)
    file.write_text(Path(f"{file}.c").read_text() + Path(f"{file}.k").read_text())
