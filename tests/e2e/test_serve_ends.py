"""However ``ascend-serve serve`` ends, nothing of it is left."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from ascend_serve.config.schema import Ingress
from tests.e2e.command import Command
from tests.patience import PATIENCE_SECONDS

SWALLOWER = """
import time
from ascend_serve.cli.lifetime import owned_processes
from ascend_serve.cluster.local import local_cluster
with owned_processes(), local_cluster(1, env={}):
    try:
        print("begun", flush=True)
        time.sleep(600)
    except SystemExit:
        raise RuntimeError("what was interrupted makes another error of it")
"""


def assert_nothing_is_left(command: Command, *, but_logs: bool = False) -> None:
    left = command.left_behind()
    assert [
        path for path in left if not (but_logs and re.search(r"/ascend-serve-\w+($|/ray($|/session_))", path))
    ] == []
    socket.create_server(("127.0.0.1", command.port)).close()


@pytest.mark.parametrize(
    ("phase", "signals", "code"),
    [
        pytest.param("logs:", (signal.SIGINT,), 130, id="Ctrl-C while Serve starts"),
        pytest.param("cluster: ", (signal.SIGINT, signal.SIGINT), 130, id="Ctrl-C twice while the model loads"),
        pytest.param("cluster: ", (signal.SIGTERM,), 143, id="SIGTERM while the model loads"),
        pytest.param("cluster: ", (signal.SIGHUP,), 129, id="a terminal that is closed while the model loads"),
    ],
)
def test_interrupted_while_starting(
    start: Callable[..., Command], phase: str, signals: tuple[signal.Signals, ...], code: int
) -> None:
    command = start()
    command.wait_for(phase)
    assert command.end(*signals) == code
    assert_nothing_is_left(command)


def test_an_interruption_that_comes_out_as_another_error_keeps_no_logs() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        words, environment = [sys.executable, "-c", SWALLOWER], os.environ | {"TMPDIR": folder}
        with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_SECONDS) == 143
        assert list(Path(folder).glob("ascend-serve-*")) == []


@pytest.mark.parametrize("ingress", Ingress)
def test_sigterm_while_serving_lets_requests_finish(start: Callable[..., Command], ingress: Ingress) -> None:
    command = start("serving.deployment={graceful_shutdown_timeout_s: 300}", f"serving.ingress={ingress}")
    command.wait_for("curl ")
    assert any("haproxy" in line for line in command.command_lines()) is (ingress is Ingress.HAPROXY)
    body = {"model": "demo", "prompt": "Hello", "max_tokens": 200, "ignore_eos": True, "stream": True}
    with httpx.stream(
        "POST", f"http://127.0.0.1:{command.port}/v1/completions", json=body, timeout=PATIENCE_SECONDS
    ) as answer:
        lines = answer.iter_lines()
        next(lines)
        command.process.send_signal(signal.SIGTERM)
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert command.process.wait(PATIENCE_SECONDS) == 143
    assert "***" not in command.text()
    assert_nothing_is_left(command)


def test_a_capture_that_may_not_fail_ends_the_start_with_its_reason(start: Callable[..., Command]) -> None:
    fault = "emulated.faults=[{rank: 1, phase: capture, size: 2, error: unknown}]"
    command = start("graph.on_failure=fail", fault)
    command.wait_for("error: ")
    assert command.process.wait(PATIENCE_SECONDS) == 1
    text = command.text()
    assert "ank 1" in text
    assert "FULL/2" in text
    assert "next:  An error without a known signature: set graph.mode=NONE" in text
    assert "Traceback" not in text
    assert_nothing_is_left(command, but_logs=True)


@pytest.mark.parametrize(
    ("phase", "name", "what"),
    [
        pytest.param("cluster: ", "gcs_server", "Ray's control service (GCS)", id="GCS while the model loads"),
        pytest.param(
            "cluster: ", "raylet", "Ray's manager of this machine (raylet)", id="raylet while the model loads"
        ),
        pytest.param("curl ", "gcs_server", "(GCS)", id="GCS while serving", marks=pytest.mark.slow),
        pytest.param("curl ", "raylet", "(raylet)", id="raylet while serving", marks=pytest.mark.slow),
    ],
)
def test_a_cluster_that_loses_what_ray_starts_no_other_of_ends_with_its_cause(
    start: Callable[..., Command], phase: str, name: str, what: str
) -> None:
    command = start()
    command.wait_for(phase)
    command.look()
    next(process for process in command.processes() if process.name() == name).kill()
    assert command.process.wait(PATIENCE_SECONDS) == 1
    assert f"error: The local Ray cluster is lost: {what}" in command.text()
    assert "was ended by SIGKILL" in command.text()
    assert "Traceback" not in command.text()
    assert_nothing_is_left(command, but_logs=True)


@pytest.mark.parametrize(
    ("override", "code", "problem"),
    [
        pytest.param("model.path=/no/such/model", 2, "/no/such/model does not exist", id="model path missing"),
        pytest.param("parallel.tensor_parallel_size=4", 2, "needs 4 NPUs", id="more ranks than NPUs"),
        pytest.param("vllm.max_num_seq=4", 2, "Did you mean vllm.max_num_seqs?", id="unknown vLLM argument"),
        pytest.param("graph.mdoe=FULL", 2, "graph.mode", id="unknown key"),
        pytest.param("serving.port=many", 2, "serving.port", id="wrong type"),
    ],
)
def test_what_the_user_did_wrong_is_said_before_anything_starts(
    start: Callable[..., Command], override: str, code: int, problem: str
) -> None:
    command = start(override)
    assert command.process.wait(PATIENCE_SECONDS) == code
    assert problem in command.text()
    assert "logs:" not in command.text()
    assert "Traceback" not in command.text()
