"""A cluster that is lost ends what waits for it, with the cause: for the library, and commands on given clusters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import Command
from tests.e2e.ray_head import RayHead, kill, ray_head
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("process", "kind", "problem"),
    [
        pytest.param("raylet", "ClusterError", "The local Ray cluster is lost: Ray's manager", id="raylet"),
        pytest.param("gcs_server", "ClusterError", "The local Ray cluster is lost: Ray's control service", id="GCS"),
        pytest.param("ray::OfflineReplica", "EngineError", "The engine died", id="the replica"),
    ],
)
def test_the_methods_of_an_engine_raise_and_it_can_be_closed(
    config: Callable[[int], Path], process: str, kind: str, problem: str
) -> None:
    env = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "tests.e2e.lost_engine", str(config(8000)), process]
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("SAID ")]
    assert lines, done.stdout + done.stderr
    said: dict[str, Any] = json.loads(lines[-1].removeprefix("SAID "))
    print(said)
    assert said["kind"] == kind
    assert problem in said["problem"]
    assert Path(said["record"]).read_text()
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        pytest.param("gcs_server", "is lost: Ray's control service (GCS) has not been there for 8 s", id="GCS"),
        pytest.param("raylet", "Ray's manager of this machine (raylet) has ended", id="the raylet of this machine"),
    ],
)
def test_a_command_on_a_given_cluster_ends_with_the_cause(
    start: Callable[..., Command], name: str, problem: str
) -> None:
    with ray_head(2, {"ASCEND_SERVE_EMULATED_NPU": "1"}) as head:
        command = start(env=head.env | {"RAY_ADDRESS": head.address})
        command.wait_for("curl ")
        # It would end the node as soon as a process of it has ended.
        head.process.suspend()
        kill([_process(head, name)])
        code = command.process.wait(PATIENCE_SECONDS)
        head.process.resume()
    print(command.text())
    assert code == 1
    assert problem in command.text()
    assert "next:" in command.text()
    assert "kept:" in command.text()
    assert "Traceback" not in command.text()


def _process(head: RayHead, name: str) -> Any:
    return next(child for child in head.process.children(recursive=True) if child.name() == name)
