"""Whatever happens to the owner of a workspace, nothing of it is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray.serve._private import constants

from ascend_serve.cache import failure_folder
from ascend_serve.cluster import janitor
from ascend_serve.cluster.workspace import Workspace
from ascend_serve.node.user_files import is_usable_place
from tests.patience import PATIENCE_SECONDS

MEMBER = """
import mmap, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1], "w+b") as file:
    file.truncate(4096)
    mapped = mmap.mmap(file.fileno(), 4096)
print("mapped", flush=True)
time.sleep(600)
"""
"""A process that maps shared memory and has to be killed."""

OWNER = """
import os, subprocess, sys, time
from pathlib import Path
from ascend_serve.cluster.workspace import Workspace
place, member, memory = sys.argv[1:]
workspace = Workspace.make([Path(place)])
process = subprocess.Popen([sys.executable, "-c", member, memory], env={**os.environ, **workspace.environment})
print(process.pid, workspace.folder, flush=True)
time.sleep(600)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="ws", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def failures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where what is known of killed owners is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return failure_folder()


@pytest.fixture
def memory() -> Iterator[Path]:
    path = Path("/dev/shm") / f"test-{os.getpid()}-{time.monotonic_ns()}"
    yield path
    path.unlink(missing_ok=True)


def member(workspace: Workspace, memory: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", MEMBER, memory],
        env={**os.environ, **workspace.environment},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_noted(folder: Path, memory: Path) -> bool:
    return memory.name in (folder / janitor.REGISTER).read_text().split()


def test_nobody_else_gets_in(place: Path) -> None:
    """Ray opens its own folder to everybody, so that it has to be inside of another."""
    workspace = Workspace.make([place])
    assert workspace.folder.stat().st_mode & 0o777 == 0o700
    assert workspace.ray_folder.parent == workspace.folder
    workspace.end()


def test_an_end_ends_processes_and_removes_shared_memory_and_folder(place: Path, memory: Path) -> None:
    workspace = Workspace.make([place])
    process = member(workspace, memory)
    wait_until(lambda: is_noted(workspace.folder, memory))
    workspace.end()
    assert process.wait(timeout=PATIENCE_SECONDS) == -signal.SIGKILL
    assert not memory.exists()
    assert list(place.iterdir()) == []


def test_shared_memory_of_a_process_that_was_killed_long_before(place: Path, memory: Path) -> None:
    workspace = Workspace.make([place])
    process = member(workspace, memory)
    wait_until(lambda: is_noted(workspace.folder, memory))
    process.kill()
    process.wait()
    assert memory.exists()
    workspace.end()
    assert not memory.exists()


def test_a_process_is_known_whatever_its_title(place: Path) -> None:
    """Ray's and vLLM's processes write their titles over the memory that /proc shows the environment from."""
    titled = "import setproctitle, time; setproctitle.setproctitle('VLLM::Worker'); print(flush=True); time.sleep(600)"
    workspace = Workspace.make([place])
    with subprocess.Popen(
        [sys.executable, "-c", titled], env={**os.environ, **workspace.environment}, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        workspace.end()
        ended = process.poll()
        process.kill()
    assert ended == -signal.SIGTERM


def test_logs_can_be_kept(place: Path) -> None:
    workspace = Workspace.make([place])
    (workspace.folder / "log").write_text("what happened")
    workspace.end(keep_logs=True)
    assert [path.name for path in place.rglob("*")] == [workspace.folder.name, "log"]


def test_what_was_kept_stays_when_it_is_ended_once_more(place: Path) -> None:
    workspace = Workspace.make([place])
    (workspace.folder / "log").write_text("what happened")
    workspace.end(keep_logs=True)
    workspace.end()
    assert (workspace.folder / "log").exists()


def test_shared_memory_of_others_stays(place: Path, memory: Path) -> None:
    workspace = Workspace.make([place])
    with subprocess.Popen([sys.executable, "-c", MEMBER, memory], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        workspace.end()
        assert process.poll() is None
        assert memory.exists()
        process.kill()


def test_an_owner_that_is_killed(place: Path, memory: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, place, MEMBER, memory], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        words: list[str] = []
        while len(words) < 3:
            words += owner.stdout.readline().split()
        pid, folder = (word for word in words if word != "mapped")
        wait_until(lambda: is_noted(Path(folder), memory))
        owner.kill()
        wait_until(lambda: list(place.iterdir()) == [])
    assert not memory.exists()
    assert not Path(f"/proc/{pid}").exists() or janitor.processes_of(Path(folder)) == []


def test_the_next_one_clears_away_what_a_killed_janitor_left(place: Path, memory: Path) -> None:
    abandoned = Workspace.make([place])
    process = member(abandoned, memory)
    wait_until(lambda: is_noted(abandoned.folder, memory))
    abandoned._janitor.kill()
    abandoned._janitor.wait()

    following = Workspace.make([place])
    assert process.wait(timeout=PATIENCE_SECONDS) == -signal.SIGKILL
    assert not memory.exists()
    assert not abandoned.folder.exists()

    third = Workspace.make([place])
    assert following.folder.exists(), "it has a janitor"
    for workspace in (following, third):
        workspace.end()


def test_an_end_without_a_janitor(place: Path, memory: Path) -> None:
    workspace = Workspace.make([place])
    process = member(workspace, memory)
    wait_until(lambda: is_noted(workspace.folder, memory))
    workspace._janitor.kill()
    workspace.end()
    assert process.wait(timeout=PATIENCE_SECONDS) == -signal.SIGKILL
    assert not memory.exists()
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "usable"),
    [
        pytest.param("a", True, id="short"),
        pytest.param("a b", False, id="with a space"),
        pytest.param("a" * 90, False, id="too long for sockets"),
    ],
)
def test_where_a_workspace_can_be(place: Path, name: str, usable: bool) -> None:
    (place / name).mkdir()
    assert is_usable_place(place / name) is usable


def test_a_place_that_takes_no_files_though_root_has_every_permission_there() -> None:
    assert not is_usable_place(Path("/proc"))


def test_a_place_that_is_not_there(place: Path) -> None:
    assert not is_usable_place(place / "none")
    with pytest.raises(OSError, match="no folder for temporary files among"):
        Workspace.make([place / "none"])


def test_serve_has_haproxys_files_in_the_workspace(place: Path) -> None:
    workspace = Workspace.make([place])
    files = {name: path for name, path in workspace.environment.items() if name.startswith("RAY_SERVE_HAPROXY_")}
    assert files
    assert all(hasattr(constants, name) for name in files), "Serve reads them"
    assert all(Path(path).is_relative_to(workspace.folder / janitor.TEMPORARY) for path in files.values())
    workspace.end()


def owner_of(place: Path, memory: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process with a workspace in which something has logged, and the workspace's folder."""
    command = [sys.executable, "-c", OWNER, str(place), MEMBER, str(memory)]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    folder = Path(owner.stdout.readline().split()[1])
    logs = folder / "ray" / "session_2026-01-01" / "logs"
    (logs / "serve").mkdir(parents=True)
    (logs / "raylet.err").write_text("no room\n")
    (logs / "serve" / "replica.log").write_text("a last word\n")
    return owner, folder


def test_an_owner_that_is_killed_leaves_what_is_known_of_it(place: Path, memory: Path, failures: Path) -> None:
    owner, folder = owner_of(place, memory)
    owner.kill()
    owner.wait()
    wait_until(lambda: not folder.exists())
    (file,) = failures.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    text = file.read_text()
    for part in (f"as by SIGKILL: process {owner.pid}", str(place), "raylet.err\nno room", "a last word"):
        assert part in text


@pytest.mark.parametrize("keep_logs", [False, True], ids=["logs go", "logs stay"])
def test_an_owner_that_ends_leaves_nothing_of_the_kind(place: Path, failures: Path, keep_logs: bool) -> None:
    Workspace.make([place]).end(keep_logs=keep_logs)
    assert not failures.exists()
