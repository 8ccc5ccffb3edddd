"""The package outside of the clone: source distribution, wheel, and what they can do in an empty folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.command import Command
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
NOT_SOURCES = shutil.ignore_patterns(
    ".git", ".venv", ".cache", ".*_cache", ".hypothesis", "__pycache__", "build", "*.egg-info"
)

BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, 'build_' + sys.argv[1])(sys.argv[2])"


def build(kind: str, source: Path, out: Path) -> Path:
    """Build ``source`` with the build backend that pip uses."""
    out.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-c", BUILD, kind, out], cwd=source, check=True, capture_output=True)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository: a build writes into it."""
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "tree", symlinks=True, ignore=NOT_SOURCES)


@pytest.fixture(scope="module")
def sdist(source: Path) -> Path:
    return build("sdist", source, source.parent / "sdist")


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    return build("wheel", source, source.parent / "wheel")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of the installed wheel, in an environment that sees the packages of this one."""
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = str(environment / "bin" / "python")
    ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = Path(subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip())
    # The files with extension pth that lie in that folder do not count, and so neither does the editable install.
    (own / "shared.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--ignore-installed", str(wheel)], check=True)
    return environment / "bin" / "ascend-serve"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def run(command: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([command, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no git repository to compare with")
def test_the_source_distribution_has_every_file_of_the_repository(sdist: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    tracked = {name for name in listed.splitlines() if not (ROOT / name).is_symlink()}
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked - packed == set()


def test_a_wheel_from_the_source_distribution_is_the_same(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    again = build("wheel", tree, tmp_path / "wheel")
    assert contents(again) == contents(wheel)


def contents(wheel: Path) -> dict[str, int]:
    """The checksum of each file."""
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: entry.CRC for entry in archive.infolist()}


def test_start_scripts_can_be_executed(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
    assert modes["ascend_serve/launch/head.sh"] & 0o111
    assert modes["ascend_serve/launch/worker.sh"] & 0o111


def test_help_names_nothing_that_is_not_there(installed: Path, empty: Path) -> None:
    done = run(installed, "--help", cwd=empty)
    assert done.returncode == 0
    assert "ascend-serve demo" in done.stdout
    assert "configs/" not in done.stdout
    assert "make " not in done.stdout


def test_plans_a_shipped_configuration(installed: Path, empty: Path) -> None:
    done = run(installed, "plan", "qwen3-32b", cwd=empty)
    assert done.returncode == 0, done.stderr
    assert "64 layers" in done.stdout
    assert f"{installed.parents[1]}/lib" in done.stderr, "the note names the file, which is the wheel's"


def test_lists_what_is_shipped(installed: Path, empty: Path) -> None:
    names = [line.split()[0] for line in run(installed, "config", "--list", cwd=empty).stdout.splitlines()]
    assert names == sorted(file.stem for file in (ROOT / "configs").glob("*.yaml"))


def test_tells_what_emulated_npus_need(installed: Path, empty: Path) -> None:
    assert run(installed, "requirements", cwd=empty).stdout == (ROOT / "requirements" / "cpu.lock").read_text()


@pytest.fixture
def demo(installed: Path, empty: Path, tmp_path: Path) -> Iterator[Command]:
    """``ascend-serve demo`` as somebody runs it who has just installed the wheel."""
    environment = {key: value for key, value in os.environ.items() if key not in ("RAY_ADDRESS", "PYTHONPATH")}
    port, output = free_port(), tmp_path / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            [installed, "demo", f"serving.port={port}"],
            cwd=empty,
            stdout=file,
            stderr=subprocess.STDOUT,
            process_group=0,
            text=True,
            env={**environment, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        )
    command = Command(process, output, port, tmp_path / "temporary")
    yield command
    if process.poll() is None:
        command.end(signal.SIGTERM)


def test_the_demo_serves_from_an_empty_folder_and_leaves_nothing(demo: Command, empty: Path) -> None:
    demo.wait_for("curl ")
    body = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    answer = httpx.post(f"http://127.0.0.1:{demo.port}/v1/chat/completions", json=body, timeout=PATIENCE_SECONDS)
    assert answer.json()["usage"]["completion_tokens"] == 4
    assert demo.end(signal.SIGINT) == 130
    assert demo.left_behind() == []
    assert list(empty.iterdir()) == []
