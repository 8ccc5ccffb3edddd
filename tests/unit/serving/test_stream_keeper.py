"""Streams by way of HAProxy and the stream keeper, whose replicas are lost on the way: what clients get."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from ascend_serve.api.stream_journal import GIVEN, KEEP, MODEL, SECRET_VARIABLE
from ascend_serve.config.schema import ServingConfig
from ascend_serve.serving.haproxy import COMMAND
from ascend_serve.serving.ingress import haproxy_environment
from ascend_serve.serving.keeper_folder import KEEPER, KEPT, LARGEST_BODY
from tests.patience import PATIENCE_SECONDS, wait_until
from tests.ports import free_port
from tests.unit.serving.kept_replica import WHOLE
from tests.unit.serving.serves_haproxy import write_configuration
from tests.unit.serving.test_haproxy import command

SECRET = "of this deployment"
CHATS = "/v1/chat/completions"
SETTINGS = haproxy_environment(ServingConfig(), COMMAND, local=False)
OWNER = "import json, subprocess, sys\nfor line in sys.stdin: subprocess.Popen(json.loads(line), stderr=sys.stderr)"


@contextlib.contextmanager
def replica(port: int, *arguments: str) -> Iterator[psutil.Popen]:
    run = [sys.executable, "-m", "tests.unit.serving.kept_replica", str(port), *arguments]
    with psutil.Popen(run, env={**os.environ, SECRET_VARIABLE: SECRET}) as process:
        try:
            assert wait_until(lambda: process.poll() is not None or bool(process.net_connections("tcp")), pause=0.05)
            yield process
        finally:
            process.kill()


@dataclass
class Ingress:
    """HAProxy and its keeper, started by a process that stands for Serve's actor."""

    port: int
    servers: Sequence[int]
    file: Path
    owner: psutil.Popen
    said: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *arguments: str) -> None:
        """Start HAProxy as Serve does, and wait until it is the one that answers."""
        before = {process.pid for process in self.haproxies()}
        assert self.owner.stdin is not None
        self.owner.stdin.write(json.dumps([*command(self.file), *arguments]).encode() + b"\n")
        self.owner.stdin.flush()
        assert wait_until(lambda: any(one.pid not in before and _listens(one) for one in self.haproxies()), pause=0.05)

    def replace(self) -> None:
        """Let a new HAProxy take the place of the one that runs, as Serve does at each change."""
        (old,) = self.haproxies()
        write_configuration(self.file.parents[1], self.port, *self.servers, settings=SETTINGS)
        self.start("-sf", str(old.pid), "-x", str(self.file.with_name("a")))

    def haproxies(self) -> list[psutil.Process]:
        return [process for process in self.owner.children() if process.name() == "haproxy"]

    def keeper(self) -> psutil.Process:
        (keeper,) = keepers(self.file.parent)
        return keeper

    @contextlib.contextmanager
    def stream(self, **wish: Any) -> Iterator[tuple[httpx.Response, Iterator[bytes]]]:
        options: dict[str, Any] = {"trust_env": False, "timeout": PATIENCE_SECONDS}
        with httpx.stream("POST", self.url + CHATS, json=wish, **options) as response:
            yield response, response.iter_raw()

    def text(self, **wish: Any) -> str:
        with self.stream(**wish) as (_, parts):
            return b"".join(parts).decode()

    def post(self, path: str, **options: Any) -> httpx.Response:
        return httpx.post(self.url + path, trust_env=False, timeout=PATIENCE_SECONDS, **options)


def _listens(haproxy: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(connection.status == psutil.CONN_LISTEN for connection in haproxy.net_connections("tcp"))
    return False


def keepers(folder: Path) -> list[psutil.Process]:
    """The keepers of a folder, by their command line."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            if "ascend_serve.serving.stream_keeper" in line and str(folder) in line:
                found.append(process)
    return found


@contextlib.contextmanager
def ingress(folder: Path, *servers: int, **environment: str) -> Iterator[Ingress]:
    port = free_port()
    file = write_configuration(folder, port, *servers, settings=SETTINGS)
    said = folder / "said"
    with said.open("wb") as errors:
        owner = psutil.Popen(
            [sys.executable, "-c", OWNER],
            stdin=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, SECRET_VARIABLE: SECRET, **environment},
        )
    with owner:
        try:
            started = Ingress(port, servers, file, owner, said)
            started.start()
            yield started
        finally:
            owner.kill()
    assert wait_until(lambda: keepers(file.parent) == [], pause=0.05)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Serve's; what HAProxy is told of it has to be the path of a socket."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        yield Path(place)


@pytest.fixture
def servers() -> tuple[int, int]:
    return free_port(), free_port()


def events(text: str) -> list[dict[str, Any]]:
    """All but the last one, which says that the stream is whole."""
    *parts, last, end = text.split("\n\n")
    assert (last, end) == ("data: [DONE]", "")
    return [json.loads(part.removeprefix("data: ")) for part in parts if not part.startswith(":")]


def tokens(text: str) -> list[int]:
    return [event["token"] for event in events(text)]


def test_a_stream_goes_on_in_another_replica(folder: Path, servers: tuple[int, int]) -> None:
    with replica(servers[0]), replica(servers[1]), ingress(folder, *servers) as here:
        answer = here.post(CHATS, json={"tokens": 50, "dies_at": 20})
    text = answer.text
    assert MODEL not in answer.headers
    assert tokens(text) == list(range(50))
    assert len({(event["id"], event["created"]) for event in events(text)}) == 1
    assert events(text)[0]["id"]
    assert "ascend-serve" not in text
    assert ": another replica goes on" in text


def test_a_stream_waits_for_a_replica(folder: Path, servers: tuple[int, int]) -> None:
    with ingress(folder, servers[0]) as here, replica(servers[0]):
        assert wait_until(lambda: here.post("/other").status_code == 200, pause=0.05)
        with here.stream(tokens=5, dies_at=3) as (_, parts):
            text = b""
            while b": the replica is being replaced" not in text:
                text += next(parts)
            with replica(servers[0]):
                text += b"".join(parts)
    assert tokens(text.decode()) == list(range(5))


@pytest.mark.parametrize(
    ("model", "wish"),
    [
        pytest.param("another", {"dies_at": 3}, id="no other replica has the model"),
        pytest.param("the model", {"dies_at": 0, "ends_replicas": True}, id="the request ends replicas"),
    ],
)
def test_a_stream_that_cannot_go_on_ends_with_an_error(
    model: str, wish: dict[str, Any], folder: Path, servers: tuple[int, int]
) -> None:
    with ingress(folder, *servers) as here, replica(servers[0]):
        assert wait_until(lambda: here.post("/other").status_code == 200, pause=0.05)
        with here.stream(tokens=9, **wish, waits=str(folder / "go")) as (_, parts):
            text = b"" if wish["dies_at"] == 0 else next(parts)
            with replica(servers[1], model):
                (folder / "go").touch()
                text += b"".join(parts)
    *_, last, end = text.decode().split("\n\n")
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == 503
    assert end == ""


def test_an_answer_that_is_no_stream_comes_as_it_is(folder: Path, servers: tuple[int, int]) -> None:
    """By the keeper, and by HAProxy alone."""
    options: dict[str, Any] = {"content": b"{}", "headers": {"Accept-Encoding": "gzip"}}
    with replica(servers[0]), ingress(folder, servers[0]) as here:
        answers = []
        for path in (CHATS, "/other"):
            with httpx.stream("POST", f"{here.url}{path}?whole", trust_env=False, **options) as answer:
                answers.append((answer.status_code, b"".join(answer.iter_raw()), answer.headers.multi_items()))
    kept, alone = ([(name, value) for name, value in headers if name != "date"] for _, _, headers in answers)
    assert [answer[:2] for answer in answers] == [(418, WHOLE)] * 2
    assert sorted(kept) == sorted(alone)


@pytest.mark.parametrize("path", [CHATS, "/app/v1/completions", "/other"])
def test_a_client_cannot_say_what_the_keeper_does(path: str, folder: Path, servers: tuple[int, int]) -> None:
    said = {KEEP: "anything", GIVEN: "1", MODEL: "any", "X-Forwarded-For": "192.0.2.1", "X-Request-Id": "mine"}
    with replica(servers[0]), ingress(folder, servers[0]) as here:
        answer = here.post(path, content=b"{}", headers=said).json()
    came = answer["headers"]
    assert came.get(KEEP) == (None if path == "/other" else SECRET)
    assert GIVEN not in came
    assert MODEL not in came
    assert came["x-request-id"] == "mine"
    assert answer["forwarded"] == ["192.0.2.1", "127.0.0.1"]
    assert answer["path"] == path


def test_what_is_too_large_to_keep_goes_past_it(folder: Path, servers: tuple[int, int]) -> None:
    bodies = [json.dumps({"x": "x" * size}) for size in (LARGEST_BODY - 100, LARGEST_BODY)]
    with replica(servers[0]), ingress(folder, servers[0]) as here:
        answers = [here.post(CHATS, content=body.encode()).json()["headers"] for body in bodies]
    assert [KEEP in came for came in answers] == [True, False]


def connections(keeper: psutil.Process) -> int:
    return len(keeper.net_connections("unix"))


@pytest.mark.parametrize("dies_at", [None, 1], ids=["in the stream", "while it waits"])
def test_a_client_that_goes_is_noticed(dies_at: int | None, folder: Path, servers: tuple[int, int]) -> None:
    with replica(servers[0]), ingress(folder, servers[0]) as here:
        assert wait_until(lambda: here.post("/other").status_code == 200, pause=0.05)
        quiet = connections(here.keeper())
        wish = {"waits": str(folder / "never")} if dies_at is None else {"dies_at": dies_at}
        with here.stream(tokens=9, **wish) as (_, parts):
            text = b""
            while (b"token" if dies_at is None else b": the replica") not in text:
                text += next(parts)
            assert connections(here.keeper()) > quiet
        assert wait_until(lambda: connections(here.keeper()) <= quiet, pause=0.05)


def test_a_client_that_does_not_read_holds_up_nobody_else(folder: Path, servers: tuple[int, int]) -> None:
    megabytes = 150
    with (
        replica(servers[0]),
        ingress(folder, servers[0]) as here,
        here.stream(tokens=megabytes, flood=2**20) as (_, parts),
    ):
        text = next(parts)
        assert tokens(here.text(tokens=50)) == list(range(50))
        assert here.keeper().memory_info().rss < megabytes * 2**20
        text += b"".join(parts)
    assert tokens(text.decode()) == list(range(megabytes))


def test_without_its_keeper_haproxy_asks_replicas_itself(folder: Path, servers: tuple[int, int]) -> None:
    with replica(servers[0]), ingress(folder, servers[0]) as here:
        assert here.post(CHATS, content=b"{}").json()["headers"][KEEP] == SECRET
        here.keeper().kill()
        assert wait_until(lambda: keepers(here.file.parent) == [], pause=0.05)
        answers = [here.post(CHATS, content=b"{}") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert not any(KEEP in answer.json()["headers"] for answer in answers)
        assert tokens(here.text(tokens=5)) == list(range(5))
        here.replace()
        assert here.post(CHATS, content=b"{}").json()["headers"][KEEP] == SECRET


def test_a_stream_outlives_the_haproxy_that_it_began_with(folder: Path, servers: tuple[int, int]) -> None:
    go = folder / "go"
    with replica(servers[0]), replica(servers[1]), ingress(folder, *servers) as here:
        keeper = here.keeper().pid
        with here.stream(tokens=9, dies_at=4, waits=str(go)) as (_, parts):
            text = next(parts)
            here.replace()
            assert here.keeper().pid == keeper
            assert tokens(here.text(tokens=3)) == list(range(3))
            go.touch()
            text += b"".join(parts)
    assert tokens(text.decode()) == list(range(9))


def test_it_ends_with_its_owner(folder: Path) -> None:
    with ingress(folder) as here:
        sockets = [here.file.with_name(name) for name in (KEEPER, KEPT)]
        assert [socket.is_socket() and socket.stat().st_mode & 0o77 == 0 for socket in sockets] == [True] * 2
        assert here.keeper().ppid() not in (here.owner.pid, here.haproxies()[0].pid)
    assert not sockets[0].exists()


def test_it_ends_when_it_is_told(folder: Path) -> None:
    with ingress(folder) as here:
        here.keeper().send_signal(signal.SIGTERM)
        assert wait_until(lambda: keepers(here.file.parent) == [], pause=0.05)
        assert here.file.with_name("keeper.log").read_text() == ""


def test_haproxy_runs_where_no_keeper_can(folder: Path, servers: tuple[int, int]) -> None:
    (folder / "broken").mkdir()
    (folder / "broken" / "aiohttp.py").write_text("raise ImportError('no aiohttp for this Python')")
    with replica(servers[0]), ingress(folder, servers[0], PYTHONPATH=str(folder / "broken")) as here:
        assert tokens(here.text(tokens=5)) == list(range(5))
        said = [line for line in here.said.read_text().splitlines() if line.startswith(COMMAND)]
    reason = "streams end with their replica, for there is no stream keeper: ImportError: no aiohttp for this Python"
    assert said == [f"{COMMAND}: {reason}"]


def test_it_starts_in_moments() -> None:
    """HAProxy, for which clients wait, waits for it."""
    program = "import sys, ascend_serve.serving.stream_keeper; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pydantic", "ray", "starlette", "torch", "vllm"} & set(loaded)
