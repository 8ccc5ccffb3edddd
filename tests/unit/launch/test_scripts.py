"""The start scripts of a cluster's nodes, with a ``ray`` on PATH that writes down how it was called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[3] / "launch"

RAY = """#!/bin/sh
if [ "$1" = get-auth-token ]; then
  [ "$2" = --generate ] && touch "$HOME/token"
  [ -e "$HOME/token" ]; exit
fi
echo "$@"
env | grep -E '^(HCCL|GLOO|TP|ASCEND_RT|RAY)_'
"""

NPU_SMI = """#!/bin/sh
[ $# = 1 ] || exit 1
echo '| npu-smi 25.5.1  Version: 25.5.1 |'
for npu in 0 1; do
  echo "| $npu  910B3 | OK | 90.0  40  0 / 0 |"
  echo "| 0 | 0000:C$npu:00.0 | 0  0 / 0  3000 / 65536 |"
done
"""


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A home folder whose ``bin`` has the tools of an NPU node."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, script in {"ray": RAY, "npu-smi": NPU_SMI}.items():
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    python = tools / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return tmp_path


def run(node: Path, script: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {"HOME": str(node), "PATH": f"{node}/bin:/usr/bin:/bin"} | env
    command = [str(LAUNCH / script), *arguments]
    return subprocess.run(command, env=clean, capture_output=True, text=True, check=False)


def test_the_head_offers_its_npus_and_switches_authentication_on(node: Path) -> None:
    answer = run(node, "head.sh", "--block")
    call, *env = answer.stdout.splitlines()
    assert call == 'start --head --port=6379 --num-gpus=0 --resources={"NPU": 2} --block'
    assert "RAY_AUTH_MODE=token" in env
    assert "ASCEND_RT_VISIBLE_DEVICES=0,1" in env
    assert "RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES=1" in env
    assert any(line.startswith("HCCL_IF_IP=") for line in env)
    assert (node / "token").exists()


def test_the_head_misses_a_node_within_seconds_unless_told_otherwise(node: Path) -> None:
    environment = run(node, "head.sh", RAY_health_check_period_ms="2000").stdout.splitlines()
    assert "RAY_health_check_period_ms=2000" in environment
    assert "RAY_health_check_failure_threshold=4" in environment
    assert "RAY_health_check_timeout_ms=5000" in environment


@pytest.mark.parametrize("options", [["--port=6380"], ["--port", "6380"]], ids=" ".join)
def test_workers_are_told_the_port_that_is_asked_for(node: Path, options: list[str]) -> None:
    answer = run(node, "head.sh", *options)
    assert answer.stdout.splitlines()[0].endswith(" ".join(options))
    assert ":6380" in answer.stderr
    assert "6379" not in answer.stderr


def test_a_head_without_npus_still_starts(node: Path) -> None:
    (node / "bin" / "npu-smi").unlink()
    answer = run(node, "head.sh")
    assert answer.stdout.splitlines()[0] == "start --head --port=6379 --num-gpus=0"
    assert "no NPU on this node" in answer.stderr


def test_a_worker_joins_with_its_npus(node: Path) -> None:
    (node / "token").touch()
    answer = run(node, "worker.sh", "10.0.0.1:6379", ASCEND_RT_VISIBLE_DEVICES="1")
    assert answer.stdout.splitlines()[0] == 'start --address=10.0.0.1:6379 --num-gpus=0 --resources={"NPU": 1}'
    assert answer.returncode == 0


def test_what_is_set_wins(node: Path) -> None:
    answer = run(node, "head.sh", GLOO_SOCKET_IFNAME="lo")
    assert "GLOO_SOCKET_IFNAME=lo" in answer.stdout.splitlines()


@pytest.mark.parametrize(
    ("call", "env", "code", "words"),
    [
        pytest.param(["worker.sh"], {}, 2, ["usage:", "10.0.0.1:6379"], id="no address"),
        pytest.param(["worker.sh", "10.0.0.1"], {}, 2, ["usage:"], id="no port"),
        pytest.param(["worker.sh", "10.0.0.1:6379"], {}, 1, ["no token", "~/.ray/auth_token"], id="no token"),
        pytest.param(["head.sh"], {"HCCL_IF_IP": "203.0.113.9"}, 1, ["203.0.113.9", "next: unset"], id="wrong address"),
    ],
)
def test_says_what_is_wrong_and_starts_nothing(
    node: Path, call: list[str], env: dict[str, str], code: int, words: list[str]
) -> None:
    answer = run(node, *call, **env)
    assert answer.returncode == code
    assert all(word in answer.stderr for word in words)
    assert answer.stdout == ""


def test_a_worker_without_npus_does_not_join(node: Path) -> None:
    (node / "token").touch()
    (node / "bin" / "npu-smi").unlink()
    answer = run(node, "worker.sh", "10.0.0.1:6379")
    assert answer.returncode == 1
    assert "no NPU" in answer.stderr
