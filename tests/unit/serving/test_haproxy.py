"""The program that Ray Serve starts as HAProxy, before a small application: what clients get."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from ascend_serve.config.schema import ServingConfig
from ascend_serve.node.user_files import LONGEST_PLACE
from ascend_serve.serving.haproxy import CERTIFICATE, COMMAND, HOST, KEY
from ascend_serve.serving.haproxy_config import DETOUR, gist
from ascend_serve.serving.ingress import haproxy_environment
from tests.patience import PATIENCE_SECONDS, wait_until
from tests.ports import free_port
from tests.unit.serving.serves_haproxy import CLIENT_SECONDS, write_configuration

PARTS = {"/stream": b"token", "/flood": b"token" * 2**14}
"""What is sent again and again, by path."""


class Application:
    """Answers as the path says, and notes which clients went before they had their answer."""

    def __init__(self, *, has_engine: bool = True) -> None:
        self._has_engine = has_engine
        self.asked: list[str] = []
        self.gone: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/-/healthz":
            await PlainTextResponse("success")(scope, receive, send)
            return
        self.asked.append(path)
        if path == "/dies":
            os._exit(1)
        if path == "/waiting":
            await self._until_gone(path, receive, send)
        if path == "/body":
            await _read(receive)
        status = 413 if path == "/too-large" else 200 if self._has_engine else 503
        await send({"type": "http.response.start", "status": status, "headers": [(b"x-client", _client(scope))]})
        if path in ("/begun", *PARTS):
            await self._until_gone(path, receive, send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _until_gone(self, path: str, receive: Receive, send: Send) -> None:
        leaving = asyncio.create_task(self._leaving(receive))
        while not leaving.done():
            if path in PARTS:
                await send({"type": "http.response.body", "body": PARTS[path], "more_body": True})
            await asyncio.sleep(0.01)
        self.gone.append(path)

    async def _leaving(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


async def _read(receive: Receive) -> None:
    while (await receive()).get("more_body"):
        pass


def _client(scope: Scope) -> bytes:
    return str(scope["client"][0]).encode()


@contextlib.contextmanager
def application(port: int, *, has_engine: bool = True, **options: Any) -> Iterator[Application]:
    app = Application(has_engine=has_engine)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", lifespan="off", **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    assert wait_until(lambda: server.started, pause=0.05)
    try:
        yield app
    finally:
        server.should_exit = True
        thread.join()


def command(file: Path) -> list[str]:
    """How Serve starts the program, with its configuration in ``file``."""
    return [sys.executable, "-m", "ascend_serve.serving.haproxy", "-db", "-f", str(file)]


@contextlib.contextmanager
def haproxy(file: Path, environment: Mapping[str, str] | None = None) -> Iterator[psutil.Popen]:
    """The program as Serve starts it, ready."""
    process = psutil.Popen(command(file), env={**os.environ, **(environment or {})}, stderr=subprocess.PIPE, text=True)
    try:
        assert wait_until(lambda: process.poll() is not None or bool(process.net_connections("tcp")), pause=0.05)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def server() -> int:
    return free_port()


def get(port: int, path: str = "/") -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False, timeout=PATIENCE_SECONDS)


def test_it_becomes_haproxy_that_serve_knows_again(tmp_path: Path, port: int) -> None:
    file = write_configuration(tmp_path, port)
    with haproxy(file) as process:
        assert Path(process.exe()).name == "haproxy"
        assert str(file) in process.cmdline()
        assert [connection.laddr[:2] for connection in process.net_connections("tcp")] == [("127.0.0.1", port)]
        assert (file.parent / "a").is_socket()


def test_serve_can_talk_to_it_by_the_longest_path_of_a_workspace(port: int) -> None:
    workspace = LONGEST_PLACE + len("/ascend-serve-XXXXXXXX/tmp")
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        folder = Path(place) / ("x" * (workspace - len(place) - 1))
        file = write_configuration(folder, port)
        with haproxy(file), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(file.with_name("a")))
            client.sendall(b"show info\n")
            assert client.recv(100).startswith(b"Name: HAProxy")


def test_it_ends_with_whoever_started_it(tmp_path: Path, port: int) -> None:
    starts = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    with psutil.Popen(
        [sys.executable, "-c", starts, *command(write_configuration(tmp_path, port))], stderr=subprocess.DEVNULL
    ) as parent:
        assert wait_until(lambda: [child.name() for child in parent.children()] == ["haproxy"], pause=0.05)
        (child,) = parent.children()
        parent.kill()
    assert wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, pause=0.05)


@pytest.mark.parametrize("is_known", [True, False], ids=["its application", "no application yet"])
def test_no_replica_is_told_by_503_with_retry_after(is_known: bool, tmp_path: Path, port: int, server: int) -> None:
    with haproxy(write_configuration(tmp_path, port, *([server] if is_known else []))):
        answer = get(port)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 5
    assert answer.json()["error"]["code"] == 503


@pytest.mark.parametrize("has_replica", [True, False], ids=["a replica", "none"])
def test_an_answer_of_serves_own_proxy_says_so(has_replica: bool, tmp_path: Path, port: int, server: int) -> None:
    replica = contextlib.nullcontext() if not has_replica else application(server)
    fallback = free_port()
    file = write_configuration(tmp_path, port, server, fallback=fallback)
    with replica, application(fallback), haproxy(file):
        assert wait_until(lambda: get(port).status_code == 200, pause=0.05)
        assert (DETOUR in get(port).headers) is not has_replica


@contextlib.contextmanager
def mortal_application(port: int) -> Iterator[None]:
    """One in a process of its own."""
    program = "import sys, uvicorn; from tests.unit.serving.test_haproxy import Application; "
    run = program + f"uvicorn.run(Application(), port={port}, log_level='critical', lifespan='off')"
    with psutil.Popen([sys.executable, "-c", run]) as replica:
        assert wait_until(lambda: bool(replica.net_connections("tcp")), pause=0.05)
        yield


def test_a_replica_that_dies_before_it_answers_is_told_alike(tmp_path: Path, port: int, server: int) -> None:
    with mortal_application(server), haproxy(write_configuration(tmp_path, port, server)):
        answer = get(port, "/dies")
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers


SETTINGS = haproxy_environment(ServingConfig(), COMMAND, local=False)
LONG_BODY = b"x" * 40_000


def test_what_a_replica_dies_under_without_a_word_is_asked_of_another(tmp_path: Path, port: int, server: int) -> None:
    """Both die here: the request came to both."""
    other = free_port()
    file = write_configuration(tmp_path, port, server, other, settings=SETTINGS)
    with mortal_application(server), mortal_application(other), haproxy(file):
        answer = httpx.post(f"http://127.0.0.1:{port}/dies", content=LONG_BODY, trust_env=False)
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers


@pytest.mark.parametrize("body", [b"x", LONG_BODY], ids=["short", "long"])
def test_a_replica_without_an_engine_is_passed_over(body: bytes, tmp_path: Path, port: int, server: int) -> None:
    other = free_port()
    file = write_configuration(tmp_path, port, server, other, settings=SETTINGS)
    with application(server, has_engine=False) as without, application(other) as with_engine, haproxy(file):
        url = f"http://127.0.0.1:{port}/body"
        statuses = [httpx.post(url, content=body, trust_env=False).status_code for _ in range(4)]
    assert statuses == [200] * 4
    assert without.asked
    assert len(with_engine.asked) == 4


def test_where_no_replica_has_an_engine_the_refusal_is_the_replicas(tmp_path: Path, port: int, server: int) -> None:
    file = write_configuration(tmp_path, port, server, settings=SETTINGS)
    with application(server, has_engine=False), haproxy(file):
        answer = get(port, "/body")
    assert answer.status_code == 503
    assert "x-client" in answer.headers


def test_a_body_that_is_refused_unread_is_answered(tmp_path: Path, port: int, server: int) -> None:
    with application(server), haproxy(write_configuration(tmp_path, port, server)):
        answer = httpx.post(f"http://127.0.0.1:{port}/too-large", content=b"x" * 2**23, trust_env=False)
    assert answer.status_code == 413


def test_the_replica_learns_the_clients_address(tmp_path: Path, port: int, server: int) -> None:
    elsewhere = httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.9"), trust_env=False)
    with application(server), haproxy(write_configuration(tmp_path, port, server)), elsewhere as client:
        answer = client.get(f"http://127.0.0.1:{port}/", headers={"X-Forwarded-For": "192.0.2.1"})
    assert answer.headers["x-client"] == "127.0.0.9"


@pytest.mark.parametrize("path", ["/waiting", "/begun", "/stream"])
def test_a_client_that_goes_is_noticed(path: str, tmp_path: Path, port: int, server: int) -> None:
    request = f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\nbody"
    with application(server) as app, haproxy(write_configuration(tmp_path, port, server)):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(request.encode())
            assert wait_until(lambda: app.asked == [path], pause=0.05)
        assert wait_until(lambda: app.gone == [path], pause=0.05)


def test_a_client_that_does_not_read_is_cut(tmp_path: Path, port: int, server: int) -> None:
    file = write_configuration(tmp_path, port, server, settings={**SETTINGS, CLIENT_SECONDS: "1"})
    with application(server) as app, haproxy(file), socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /flood HTTP/1.1\r\nHost: here\r\n\r\n")
        assert wait_until(lambda: app.gone == ["/flood"], pause=0.05)


@pytest.mark.parametrize("path", ["/waiting", "/begun"])
def test_a_client_that_waits_is_not_cut(path: str, tmp_path: Path, port: int, server: int) -> None:
    """Its time is over when that of the one beside it is, which began later and does not read."""
    file = write_configuration(tmp_path, port, server, settings={**SETTINGS, CLIENT_SECONDS: "1"})
    with application(server) as app, haproxy(file), socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        assert wait_until(lambda: app.asked == [path], pause=0.05)
        with socket.create_connection(("127.0.0.1", port)) as other:
            other.sendall(b"GET /flood HTTP/1.1\r\nHost: here\r\n\r\n")
            assert wait_until(lambda: bool(app.gone), pause=0.05)
        assert app.gone == ["/flood"]


def test_tls_on_both_sides(tmp_path: Path, port: int, server: int) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {key} -out {certificate} -subj /CN=localhost"
    subprocess.run([*make.split(), "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    file = write_configuration(tmp_path, port, server)
    environment = {HOST: "127.0.0.1", CERTIFICATE: str(certificate), KEY: str(key)}
    trust = ssl.create_default_context(cafile=str(certificate))
    with (
        application(server, ssl_certfile=str(certificate), ssl_keyfile=str(key)),
        haproxy(file, environment),
    ):
        assert httpx.get(f"https://127.0.0.1:{port}/", verify=trust, trust_env=False).status_code == 200
    assert file.stat().st_mode & 0o77 == 0
    assert [path.name for path in file.parent.iterdir() if not path.is_symlink() and _has_key(path)] == []


def _has_key(path: Path) -> bool:
    return path.is_file() and "PRIVATE KEY" in path.read_text()


def test_a_configuration_that_it_does_not_know_ends_it_with_a_way_out(tmp_path: Path) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text("global\n")
    done = subprocess.run(command(file), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "serving.ingress=proxy" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_told_in_one_line(tmp_path: Path, port: int) -> None:
    file = write_configuration(tmp_path, port)
    with socket.create_server(("127.0.0.1", port)):
        done = subprocess.run(command(file), capture_output=True, text=True, check=False)
    said = gist(f"HAProxy crashed during startup: {done.stderr}")
    assert re.fullmatch(f"HAProxy crashed during startup: .*cannot bind socket .*{port}]", said)
