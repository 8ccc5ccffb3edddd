"""``ascend-serve install``: what it refuses, and what it says before it changes anything."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from ascend_serve.install.node_check import NEEDED_DISK, Room, examine
from ascend_serve.node.facts import NodeFacts
from ascend_serve.node.finding import Status
from ascend_serve.releases import DEFAULT, RELEASES

READY = Room(
    NEEDED_DISK, {"ASCEND_HOME_PATH": "/usr/local/Ascend", "ATB_HOME_PATH": "/usr/local/Ascend/nnal"}, "/bin/g++"
)
NODE = NodeFacts(
    address="10.0.0.1",
    hostname="node1",
    python="3.11.7",
    processor="aarch64",
    glibc="2.35",
    hdk="25.5.1",
    cann="9.1.0",
)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "ascend_serve.cli.main", "install", *words]
    return subprocess.run(program, capture_output=True, text=True, check=False)


def failed(facts: NodeFacts = NODE, room: Room = READY, row: int = 1) -> list[str]:
    return [name for name, finding in examine(facts, room, RELEASES[row]) if finding.status is Status.FAIL]


def test_a_node_that_has_all_of_it_passes() -> None:
    assert failed() == []


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        pytest.param({"processor": "riscv64"}, "processor", id="processor"),
        pytest.param({"glibc": "2.28"}, "processor", id="C library"),
        pytest.param({"python": "3.13.2"}, "python", id="Python"),
        pytest.param({"hdk": None}, "hdk", id="no driver"),
        pytest.param({"cann": "8.5.0"}, "cann", id="CANN"),
    ],
)
def test_a_node_that_lacks_something_is_refused(changes: dict[str, str], check: str) -> None:
    assert failed(NODE.model_copy(update=changes)) == [check]


@pytest.mark.parametrize(
    ("room", "check"),
    [
        pytest.param(Room(NEEDED_DISK - 1, READY.environment, "/bin/g++"), "disk", id="disk"),
        pytest.param(Room(NEEDED_DISK, {"ATB_HOME_PATH": "/"}, "/bin/g++"), "environment", id="CANN is not sourced"),
        pytest.param(Room(NEEDED_DISK, READY.environment, None), "compiler", id="compiler"),
    ],
)
def test_what_building_takes_is_looked_for(room: Room, check: str) -> None:
    assert failed(room=room) == [check]


def test_the_row_decides_what_fits() -> None:
    assert failed(row=-1) == ["cann"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param(["0.1"], "Give one of 0.23.0, 0.23.0.post1", id="release"),
        pytest.param(["--offline"], "Give it as --wheels FOLDER", id="no folder"),
        pytest.param(["--offline", "--wheels", "/nowhere"], "/nowhere is no folder", id="folder"),
    ],
)
def test_what_cannot_work_is_refused(words: list[str], told: str) -> None:
    done = command(*words)
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr


@pytest.mark.skipif(shutil.which("npu-smi") is not None, reason="this machine is a node with NPUs: it would be set up")
def test_a_machine_without_npus_is_told_all_that_it_lacks() -> None:
    done = command()
    assert done.returncode == 1
    assert "no driver version found" in done.stderr
    assert "no CANN toolkit found" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_dry_run_prints_the_commands_and_only_warns() -> None:
    done = command("--dry-run", DEFAULT.vllm_ascend)
    assert done.returncode == 0
    assert "VLLM_TARGET_DEVICE=empty" in done.stdout
    assert f"vllm-ascend=={DEFAULT.vllm_ascend}" in done.stdout
