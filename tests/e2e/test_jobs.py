"""``ray job submit`` of both entry points, on a cluster started by ``ray start`` with token authentication."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import COMMAND
from tests.e2e.ray_head import ROOT, RayHead, ray_head, started
from tests.patience import PATIENCE_SECONDS, wait_until
from tests.ports import free_port

pytestmark = pytest.mark.slow

SUBMIT = ("job", "submit", "--working-dir", str(ROOT))


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    with ray_head(npus=2) as head:
        yield head


def assert_nothing_is_left(head: RayHead) -> None:
    wait_until(lambda: head.survey().free_npus == 2 and not head.processes())
    assert head.survey().free_npus == 2
    assert head.survey().actors == []
    assert head.processes() == []


def deployments(head: RayHead) -> list[dict[str, Any]]:
    """What `ascend-serve status` tells."""
    env = head.env | {"RAY_ADDRESS": head.address}
    done = subprocess.run([*COMMAND, "status", "--json"], env=env, capture_output=True, text=True, check=True)
    told: list[dict[str, Any]] = json.loads(done.stdout)["deployments"]
    return told


def test_status_shows_the_engine_of_a_job_that_generates(
    head: RayHead, config: Callable[[int], Path], tmp_path: Path
) -> None:
    line = '{"prompt": "Hello", "max_tokens": 200, "ignore_eos": true}\n'
    (tmp_path / "in.jsonl").write_text(line * 2000)
    files = ("--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl"))
    entry = ("python", "launch/generate.py", str(config(8000)), *files)
    submitted = head.ray(*SUBMIT, "--no-wait", "--submission-id", "generate", "--", *entry)
    assert submitted.returncode == 0, submitted.stdout

    def serves() -> bool:
        return any(told["replicas"][0]["state"] == "serving" for told in deployments(head) if told["replicas"])

    try:
        assert wait_until(serves), head.ray("job", "logs", "generate").stdout
        (told,) = deployments(head)
        assert (told["state"], told["replicas"][0]["detail"]) == ("OFFLINE", "serve, 3 of 3 graphs on 2 ranks")
    finally:
        head.ray("job", "stop", "generate")
    assert_nothing_is_left(head)


def test_generate_from_another_directory(head: RayHead, config: Callable[[int], Path], tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "Hello", "max_tokens": 4, "temperature": 0}\n')
    files = ("--input", str(tmp_path / "in.jsonl"), "--output", str(tmp_path / "out.jsonl"))
    done = head.ray(*SUBMIT, "--", "python", "launch/generate.py", str(config(8000)), *files, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "1 answers in" in done.stdout
    assert "FULL_DECODE_ONLY" in done.stdout
    (answer,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert answer["usage"]["completion_tokens"] == 4
    assert_nothing_is_left(head)


@pytest.mark.parametrize(
    ("call", "problem", "code"),
    [
        pytest.param("serve.py CONFIG graph.mdoe=FULL", "Did you mean graph.mode?", 2, id="unknown key"),
        pytest.param("serve.py CONFIG parallel.tensor_parallel_size=4", "the cluster offers 2", 1, id="too few NPUs"),
        pytest.param("generate.py CONFIG --input no --output out", "no: no such file", 2, id="missing input"),
    ],
)
def test_a_mistake_fails_the_job_with_its_reason(
    head: RayHead, config: Callable[[int], Path], call: str, problem: str, code: int
) -> None:
    words = call.replace("CONFIG", str(config(8000))).split()
    done = head.ray(*SUBMIT, "--", "python", f"launch/{words[0]}", *words[1:])
    assert done.returncode == 1, done.stdout
    assert problem in done.stdout
    assert f"exit code {code}" in done.stdout
    assert "Traceback" not in done.stdout


def test_variables_of_the_job_reach_the_workers_and_are_checked(head: RayHead, config: Callable[[int], Path]) -> None:
    env = json.dumps({"env_vars": {"GLOO_SOCKET_IFNAME": "nosuch0"}})
    entry = ("python", "launch/serve.py", str(config(free_port())))
    done = head.ray(*SUBMIT, "--runtime-env-json", env, "--", *entry)
    assert done.returncode == 1, done.stdout
    assert re.search(r"GLOO_SOCKET_IFNAME=nosuch0 names no interface of this node \(it has .*lo.*\)", done.stdout)
    assert_nothing_is_left(head)


def test_a_server_whose_npus_are_taken_says_so(head: RayHead, config: Callable[[int], Path], tmp_path: Path) -> None:
    hold = "import ray, time; ray.init(); ray.get(ray.remote(resources={'NPU': 1})(lambda: time.sleep(3600)).remote())"
    held = head.ray("job", "submit", "--no-wait", "--submission-id", "holder", "--", "python", "-c", hold)
    assert held.returncode == 0, held.stdout
    assert wait_until(lambda: head.survey().free_npus == 1)
    env = head.env | {"RAY_ADDRESS": head.address}
    with started([*COMMAND, "serve", config(free_port())], env, (tmp_path / "output").open("w")) as server:
        assert wait_until(lambda: "No node has room" in (tmp_path / "output").read_text())
        assert server.is_running()
    head.ray("job", "stop", "holder")
    assert_nothing_is_left(head)


def test_the_demo_without_waiting_until_it_is_stopped(head: RayHead) -> None:
    port = free_port()
    name = ("--no-wait", "--submission-id", "server")
    entry = ("python", "launch/serve.py", "configs/demo.yaml", f"serving.port={port}")
    submitted = head.ray(*SUBMIT, *name, "--", *entry)
    assert submitted.returncode == 0, submitted.stdout
    assert wait_until(lambda: "curl " in head.ray("job", "logs", "server").stdout)
    body = {"model": "demo", "prompt": "Hello", "max_tokens": 4}
    answer = httpx.post(f"http://127.0.0.1:{port}/v1/completions", json=body, timeout=PATIENCE_SECONDS)
    assert answer.json()["usage"]["completion_tokens"] == 4
    assert [(told["state"], told["replicas"][0]["state"]) for told in deployments(head)] == [("RUNNING", "serving")]

    stopped = head.ray("job", "stop", "server")
    assert stopped.returncode == 0, stopped.stdout
    assert "was stopped" in head.ray("job", "status", "server").stdout
    log = head.ray("job", "logs", "server").stdout
    assert "SIGTERM received" not in log
    assert "Traceback" not in log
    assert_nothing_is_left(head)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/health")
