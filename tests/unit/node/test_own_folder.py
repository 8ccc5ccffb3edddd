"""Sockets and temporary files of a process: in a folder that somebody removes, however the process ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ascend_serve.node import own_folder
from ascend_serve.node.own_folder import SOCKETS_VARIABLE, sweep, use_own_folder_for_sockets

OWNER = """
import os, sys, tempfile, time
from pathlib import Path
from ascend_serve.node.own_folder import use_own_folder
use_own_folder(Path(sys.argv[1]))
Path(os.environ["VLLM_RPC_BASE_PATH"], "socket").touch()
tempfile.mkdtemp(prefix="pymp-")
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_folder, "_held", {})
    monkeypatch.setenv(SOCKETS_VARIABLE, "before")


@pytest.fixture
def place() -> Iterator[Path]:
    """Short enough for the paths of sockets."""
    folder = Path(tempfile.mkdtemp(prefix="own", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def owner(place: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_a_process_that_ends_removes_its_own(place: Path) -> None:
    process = owner(place)
    (folder,) = place.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name.partition("-")[0] for path in folder.iterdir()) == ["lock", "pymp", "socket"]
    process.communicate()
    assert list(place.iterdir()) == []


def test_what_a_killed_process_left_is_swept_by_the_next_and_a_living_one_s_is_not(place: Path) -> None:
    killed, living = owner(place), owner(place)
    killed.kill()
    killed.wait()
    assert len(list(place.iterdir())) == 2
    assert sweep(place)
    (left,) = place.iterdir()
    assert use_own_folder_for_sockets(place) is not None
    assert left.exists()
    living.communicate()
    assert not sweep(place)


@pytest.mark.parametrize("name", ["x" * 80, "none/there"], ids=["too long for sockets", "missing"])
def test_a_folder_that_cannot_be_used_changes_nothing(name: str, tmp_path: Path) -> None:
    place = tmp_path / name
    if "/" not in name:
        place.mkdir()
    assert use_own_folder_for_sockets(place) is None
    assert os.environ[SOCKETS_VARIABLE] == "before"
    assert not place.exists() or list(place.iterdir()) == []


def test_a_link_that_another_user_planted_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "lock").touch()
    place = tmp_path / "place"
    place.mkdir()
    (place / f"{own_folder._PREFIX}x").symlink_to(target)
    sweep(place)
    assert (target / "lock").exists()
