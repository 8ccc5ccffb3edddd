"""``serve run``, and an application of somebody else's with our deployment in it, on one cluster with emulated NPUs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.documents import text_of
from tests.e2e.ray_head import BIN, ROOT, RayHead, ray_head, started
from tests.patience import PATIENCE_SECONDS, wait_until
from tests.ports import free_port

SERVE_RUN = (
    "serve run ascend_serve.serving.builder:build config=configs/demo.yaml parallel.tensor_parallel_size=1 "
    "--name plain --route-prefix /plain"
)
COMPOSED = "serve run my_app:build config=configs/demo.yaml --name composed --route-prefix /composed"


class Ways:
    """Both applications, behind one server.

    Args:
        head: The cluster.
        port: Of the server.
    """

    def __init__(self, head: RayHead, port: int) -> None:
        self.env = head.env | {"RAY_ADDRESS": head.address}
        self.url = f"http://127.0.0.1:{port}"

    def serve(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `serve` to its end."""
        line = [str(BIN / "serve"), *words]
        return subprocess.run(line, cwd=ROOT, env=self.env, capture_output=True, text=True, check=False)

    def deployments(self) -> dict[str, dict[str, Any]]:
        """What `ascend-serve status` tells from another process, by name."""
        line = [str(BIN / "ascend-serve"), "status", "--json"]
        done = subprocess.run(line, cwd=ROOT, env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return {deployment["name"]: deployment for deployment in json.loads(done.stdout)["deployments"]}

    def client(self, name: str) -> httpx.Client:
        return httpx.Client(base_url=f"{self.url}/{name}", timeout=PATIENCE_SECONDS)

    def answers(self, name: str, path: str) -> bool:
        try:
            return httpx.get(f"{self.url}/{name}{path}", timeout=PATIENCE_SECONDS).is_success
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the application that the documents show."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "my_app.py").write_text(text_of("docs/operations.md: Composition (python)"))
    return folder


@pytest.fixture(scope="module")
def ways(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    logs = tmp_path_factory.mktemp("logs")
    with ray_head(npus=6) as head, ExitStack() as running:
        port = free_port()
        ways = Ways(head, port)
        begun = ways.serve("start", "--http-host", "127.0.0.1", "--http-port", str(port))
        assert begun.returncode == 0, begun.stderr
        composed = f"{COMPOSED} --app-dir {folder} --working-dir {folder}"
        for name, line, path in (("plain", SERVE_RUN, "/health"), ("composed", composed, "/report")):
            words: Sequence[object] = [BIN / "serve", *line.split()[1:]]
            process = running.enter_context(started(words, ways.env, (logs / name).open("w"), cwd=ROOT))
            wait_until(lambda: ways.answers(name, path) or process.poll() is not None)  # noqa: B023
            assert ways.answers(name, path), (logs / name).read_text()
        yield ways


def test_serve_run_serves_the_openai_api(ways: Ways) -> None:
    with ways.client("plain") as client:
        answer = client.post("/v1/completions", json={"model": "demo", "prompt": "Hello", "max_tokens": 4})
        assert answer.json()["usage"]["completion_tokens"] == 4
        assert client.get("/graph/report").json()["effective_mode"] == "FULL_DECODE_ONLY"


def test_an_application_of_ones_own_asks_over_the_handle(ways: Ways) -> None:
    question = {"question": "Hello"}
    with ways.client("composed") as client:
        answer = client.post("/ask", params=question)
        assert answer.status_code == 200
        assert answer.json()
        with client.stream("POST", "/tell", params=question) as told:
            parts = list(told.iter_text())
        assert "".join(parts) == answer.json()
        assert client.get("/report").json()["effective_mode"] == "FULL_DECODE_ONLY"


def test_status_shows_what_serve_run_started_and_applications_of_others(ways: Ways) -> None:
    told = ways.deployments()
    assert [(name, told[name]["state"]) for name in sorted(told)] == [("composed", "RUNNING"), ("plain", "RUNNING")]
    for deployment in told.values():
        (replica,) = deployment["replicas"]
        assert replica["state"] == "serving"
        assert replica["load"]["running"] == 0
        assert replica["report"]["effective_mode"] == "FULL_DECODE_ONLY"


def test_an_error_of_the_engine_is_one_of_the_applications(ways: Ways) -> None:
    with ways.client("composed") as client:
        refused = client.post("/ask", params={"question": "too long " * 500})
    assert refused.status_code == 400
    assert "maximum context length" in refused.json()["error"]["message"]


def test_what_a_user_can_act_on_has_no_traceback(ways: Ways) -> None:
    build = ("run", "ascend_serve.serving.builder:build", "config=configs/demo.yaml")
    too_few = ways.serve(*build, "parallel.tensor_parallel_size=4", "parallel.data_parallel_size=2")
    assert too_few.returncode == 1
    assert "Error: The replica needs 8 NPUs" in too_few.stderr
    unknown = ways.serve(*build, "graph.mdoe=FULL")
    assert "Did you mean graph.mode?" in unknown.stderr
    unreachable = ways.serve(*build, "--address", f"127.0.0.1:{free_port()}")
    assert "cannot be used" in unreachable.stderr
    assert "Traceback" not in too_few.stderr + unknown.stderr + unreachable.stderr


METRICS_PORT = """
import ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
print("PORT", ray.nodes()[0]["MetricsExportPort"])
"""


@pytest.mark.slow
def test_rays_metrics_have_what_the_replicas_count(ways: Ways) -> None:
    words = [sys.executable, "-c", METRICS_PORT]
    told = subprocess.run(words, env=ways.env, capture_output=True, text=True, check=True).stdout
    agent = f"http://127.0.0.1:{told.partition('PORT ')[2].strip()}/metrics"
    with ways.client("plain") as client:
        body = {"model": "demo", "prompt": ["a", "b", "c"], "max_tokens": 20, "ignore_eos": True}
        assert client.post("/v1/completions", json=body).is_success

        def equal() -> bool:
            own = _sums(client.get("/metrics").text, "", {})
            rays = _sums(httpx.get(agent).text, "ray_", {"application": "plain"})
            return bool(own) and rays == own

        assert wait_until(equal), (client.get("/metrics").text, httpx.get(agent).text)


def _sums(text: str, prefix: str, labels: dict[str, str]) -> dict[tuple[str, ...], float]:
    """Steps and answered requests in a text for Prometheus."""
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name.removeprefix(prefix).replace(":", "_")
            counted = name in ("ascend_serve_steps_total", "vllm_request_success_total") and sample.value
            if counted and labels.items() <= sample.labels.items():
                told = (sample.labels.get(key, "") for key in ("kind", "replay", "size", "finished_reason"))
                found[(name, *told)] = sample.value
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("block", "prefix"),
    [
        pytest.param("README.md: Inside Ray Serve (python)", "", id="README"),
        pytest.param("docs/operations.md: Applications by Serve's own tools (python)", "/demo", id="operations"),
    ],
)
def test_from_python(ways: Ways, block: str, prefix: str) -> None:
    words = [sys.executable, "-c", text_of(block)]
    done = subprocess.run(words, cwd=ROOT, env=ways.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    request = {"model": "demo", "prompt": "Hello", "max_tokens": 4}
    answer = httpx.post(f"{ways.url}{prefix}/v1/completions", json=request, timeout=PATIENCE_SECONDS)
    assert answer.json()["usage"]["completion_tokens"] == 4


@pytest.mark.slow
def test_the_doctor_of_a_cluster_with_emulated_npus(ways: Ways) -> None:
    words = [str(BIN / "ascend-serve"), "doctor", "configs/demo.yaml"]
    done = subprocess.run(words, cwd=ROOT, env=ways.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_while_the_engine_restarts_a_handle_gets_503_as_clients_do(ways: Ways) -> None:
    def ask() -> httpx.Response:
        with ways.client("composed") as client:
            return client.post("/ask", params={"question": "Hello"})

    with ways.client("composed") as client:
        pid = client.get("/report").json()["ranks"][0]["pid"]
    os.kill(pid, signal.SIGKILL)
    answers: list[Any] = []

    def refused() -> bool:
        answers.append(ask())
        return bool(answers[-1].status_code == 503)

    assert wait_until(refused)
    assert "being replaced" in answers[-1].json()["error"]["message"]
    assert wait_until(lambda: ask().status_code == 200)


TWO_ENGINES = """
import ascend_serve
from ray import serve


@serve.deployment
class Both:
    def __init__(self, *models):
        self.models = models


def build(args):
    engine = ["parallel.tensor_parallel_size=1"]
    return Both.bind(*(ascend_serve.build_deployment(args["config"], engine) for _ in range(2)))
"""


@pytest.mark.slow
def test_status_shows_each_engine_of_an_application_that_has_two(ways: Ways, tmp_path: Path) -> None:
    (tmp_path / "two_engines.py").write_text(TWO_ENGINES)
    application = ("--name", "two", "--route-prefix", "/two", "--app-dir", tmp_path, "--working-dir", tmp_path)
    words = [BIN / "serve", "run", "two_engines:build", f"config={ROOT / 'configs' / 'demo.yaml'}", *application]
    # Its end is that of Serve, so this test is the last.
    with started(words, ways.env, (tmp_path / "log").open("w"), cwd=ROOT):
        two = ("two", "two/OpenAIReplica_1")

        def serve() -> bool:
            replicas = [ways.deployments().get(name, {}).get("replicas") for name in two]
            return all(each and each[0]["state"] == "serving" for each in replicas)

        assert wait_until(serve), (tmp_path / "log").read_text()
        for name in two:
            line = [str(BIN / "ascend-serve"), "logs", name, "--rank", "0", "--lines", "1"]
            assert subprocess.run(line, env=ways.env, capture_output=True, check=False).returncode == 0
