"""Several models on one Serve; updates and scaling by Serve's own tools while clients ask."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from ascend_serve.config.schema import Ingress, ServingConfig
from ascend_serve.serving.ingress import haproxy_environment
from tests.e2e.command import Command
from tests.e2e.ray_head import BIN, RayHead, ray_head
from tests.patience import PATIENCE_SECONDS, wait_until
from tests.ports import free_port

pytestmark = pytest.mark.slow

CLIENTS = 3
TOKENS = 32
PAUSE_SECONDS = 0.2
"""Between two requests of a client, so that a replica that starts gets some of the machine."""
IDLE_SECONDS = 7.0
KEY = "the-key-of-this-test"
DEPLOYMENT = "OpenAIReplica"
HAPROXY = str(BIN / "ascend-serve-haproxy")
SETTLED_SECONDS = 5.0
UPDATE = {"graph.capture_sizes": [1, 4]}
SCALING = {
    "min_replicas": 1,
    "max_replicas": 2,
    "target_ongoing_requests": 1,
    "upscale_delay_s": 1,
    "downscale_delay_s": 5,
    "look_back_period_s": 11,
}


@dataclass
class Load:
    """Clients that stream answers all the time.

    Attributes:
        complete: Texts that came whole.
        failed: What happened to the others.
    """

    complete: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Service:
    """Applications on a cluster, as an operator has them: one file for `serve deploy`."""

    head: RayHead
    file: Path
    port: int

    def deploy(self, applications: list[dict[str, Any]]) -> None:
        """Write the file and let `serve deploy` read it."""
        options = {"host": "127.0.0.1", "port": self.port}
        self.file.write_text(yaml.safe_dump({"http_options": options, "applications": applications}))
        done = self._serve("deploy", str(self.file))
        assert done.returncode == 0, done.stdout

    def application(self, name: str) -> dict[str, Any]:
        """What `serve status` says about one application."""
        status = yaml.safe_load(self._serve("status").stdout)
        application: dict[str, Any] = status["applications"].get(name, {"status": "none"})
        assert application["status"] != "DEPLOY_FAILED", application
        return application

    def replicas(self, name: str) -> dict[str, int]:
        """How many replicas are in which state; none while Serve builds the application anew."""
        deployments = self.application(name).get("deployments", {})
        states: dict[str, int] = deployments.get(DEPLOYMENT, {}).get("replica_states", {})
        return states

    def report(self, prefix: str) -> dict[str, Any]:
        """The report of a replica."""
        with self.client(prefix) as client:
            report: dict[str, Any] = client.get("/graph/report").raise_for_status().json()
        return report

    def client(self, prefix: str) -> httpx.Client:
        bearer = {"Authorization": f"Bearer {KEY}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}{prefix}", timeout=PATIENCE_SECONDS, headers=bearer)

    def _serve(self, command: str, *words: str) -> subprocess.CompletedProcess[str]:
        line = [str(BIN / "serve"), command, "--address", self.head.dashboard, *words]
        return subprocess.run(
            line, env=self.head.env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
        )


@pytest.fixture(scope="module", params=list(Ingress))
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    variables = haproxy_environment(ServingConfig(), HAPROXY, local=False) if request.param is Ingress.HAPROXY else {}
    with ray_head(4, variables) as head:
        yield Service(head, tmp_path_factory.mktemp("serve") / "serve.yaml", free_port())


@pytest.fixture(scope="module")
def application(
    config: Callable[[int], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, Any]]:
    """Describes one application in the words of `serve deploy`."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(KEY)
    file = config(8000)

    def describe(name: str, deployments: list[dict[str, Any]] | None = None, **keys_and_values: Any) -> dict[str, Any]:
        own = {
            "model.served_name": name,
            "parallel.tensor_parallel_size": 1,
            "serving.api_key_file": str(keys),
            "serving.deployment": {"max_surge_percent": 100, "graceful_shutdown_timeout_s": 120},
        }
        return {
            "name": name,
            "route_prefix": f"/{name}",
            "import_path": "ascend_serve.serving.builder:build",
            "args": {"config": str(file), **own, **keys_and_values},
            "deployments": deployments or [],
        }

    return describe


def test_two_files_are_two_models_behind_one_server_with_tls(
    config: Callable[[int], Path], start: Callable[..., Command], tmp_path: Path
) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {key} -out {certificate} -subj /CN=localhost"
    subprocess.run([*make.split(), "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    second = tmp_path / "second.yaml"
    second.write_text(yaml.safe_dump(yaml.safe_load(config(8000).read_text()) | {"serving": {"route_prefix": "/two"}}))
    options = f"serving.http_options={{ssl_keyfile: {key}, ssl_certfile: {certificate}}}"
    small = ("parallel.tensor_parallel_size=1", "emulated.npus=1")
    server = start(*small, "serving.route_prefix=/one", options, str(second), *small, "model.served_name=other")
    server.wait_for("curl .*/two/")
    with httpx.Client(
        base_url=f"https://127.0.0.1:{server.port}", verify=str(certificate), timeout=PATIENCE_SECONDS
    ) as client:
        for prefix, name in (("/one", "demo"), ("/two", "other")):
            body = {"model": name, "prompt": "Hello", "max_tokens": 4}
            assert client.post(f"{prefix}/v1/completions", json=body).json()["model"] == name
            assert client.get(f"{prefix}/health").status_code == 200
        assert client.get("/v1/models").status_code == 404
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"http://127.0.0.1:{server.port}/one/health")
    assert server.end(signal.SIGINT) == 130
    assert server.left_behind() == []


@pytest.fixture(scope="module")
def reference(service: Service, application: Callable[..., dict[str, Any]]) -> str:
    """The text that every client gets, from an application that runs."""
    service.deploy([application("one")])
    assert wait_until(lambda: service.application("one")["status"] == "RUNNING")
    seen = Load()
    with service.client("/one") as client:
        _ask_once(client, seen)
    assert seen.failed == []
    return seen.complete[0]


def test_an_update_fails_no_request(
    service: Service, application: Callable[..., dict[str, Any]], reference: str
) -> None:
    with load(service, "/one") as seen:
        service.deploy([application("one", **UPDATE)])
        assert wait_until(lambda: service.report("/one")["capture_sizes"] == [1, 4])
        assert wait_until(lambda: service.replicas("one") == {"RUNNING": 1})
    print(f"{len(seen.complete)} requests while the application was updated")
    assert seen.failed == []
    assert set(seen.complete) == {reference}


def test_scaling_fails_no_request(service: Service, application: Callable[..., dict[str, Any]], reference: str) -> None:
    scaled = [{"name": DEPLOYMENT, "autoscaling_config": SCALING}]
    with load(service, "/one") as up:
        service.deploy([application("one", scaled, **UPDATE)])
        assert wait_until(lambda: service.replicas("one") == {"RUNNING": 2})
        time.sleep(SETTLED_SECONDS)
    with load(service, "/one", clients=1) as down:
        assert wait_until(lambda: service.replicas("one") == {"RUNNING": 1})
        time.sleep(SETTLED_SECONDS)
    print(f"{len(up.complete)} requests while it went to 2 replicas, {len(down.complete)} while it went to 1")
    assert up.failed + down.failed == []
    assert set(up.complete + down.complete) == {reference}


def test_a_wrong_argument_is_named(service: Service, application: Callable[..., dict[str, Any]]) -> None:
    service.deploy([application("three", **{"graph.mdoe": "FULL"})])

    def message() -> str:
        status = yaml.safe_load(service._serve("status").stdout)["applications"]["three"]
        return str(status["message"]) if status["status"] == "DEPLOY_FAILED" else ""

    assert wait_until(lambda: bool(message()))
    assert "Did you mean graph.mode?" in message()
    env = service.head.env | {"RAY_ADDRESS": service.head.address}
    told = subprocess.run([str(BIN / "ascend-serve"), "status", "--json"], env=env, capture_output=True, check=True)
    deployments = {each["name"]: each for each in json.loads(told.stdout)["deployments"]}
    assert deployments["three"]["state"] == "DEPLOY_FAILED"
    assert deployments["three"]["message"].startswith("ascend_serve.errors.ConfigError: graph.mdoe: unknown key")


@contextmanager
def load(service: Service, prefix: str, clients: int = CLIENTS) -> Iterator[Load]:
    """Clients that ask until the end of the block, each over a connection that it keeps, and finishes its last stream.

    The last of several asks seldom: its connection is idle while replicas come and go.
    """
    seen, stop = Load(), threading.Event()
    pauses = [PAUSE_SECONDS] * (CLIENTS - 1) + [IDLE_SECONDS]
    with ThreadPoolExecutor(clients) as pool:
        asking: list[Future[None]] = [
            pool.submit(_ask, service, prefix, seen, stop, pause) for pause in pauses[:clients]
        ]
        try:
            yield seen
        finally:
            stop.set()
            for each in asking:
                each.result()


def _ask(service: Service, prefix: str, seen: Load, stop: threading.Event, pause: float) -> None:
    with service.client(prefix) as client:
        while not stop.wait(pause):
            _ask_once(client, seen)


def _ask_once(client: httpx.Client, seen: Load) -> None:
    body = {"model": "one", "prompt": "Hello", "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
    try:
        with client.stream("POST", "/v1/completions", json=body | {"stream": True}) as answer:
            lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
            status = answer.status_code
    except httpx.HTTPError as error:
        seen.failed.append(repr(error))
        return
    choices = [json.loads(line)["choices"][0] for line in lines[:-1] if '"choices"' in line]
    if status == 200 and lines[-1:] == ["[DONE]"] and choices[-1]["finish_reason"] == "length":
        seen.complete.append("".join(choice["text"] for choice in choices))
    else:
        seen.failed.append(f"{status} {lines[-2:]}")
