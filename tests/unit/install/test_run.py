"""A set-up that is run: with real pip, on small wheels, into an environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = """
import json, sys
from pathlib import Path
from ascend_serve.errors import MachineError
from ascend_serve.install.run import run
from ascend_serve.install.steps import PackageSource, InstallStep

told = []
steps = [InstallStep(name, {name: version}, "look there", **more) for name, version, more in json.loads(sys.argv[1])]
try:
    run(steps, PackageSource(wheels=Path(sys.argv[2]), offline=True), told.append)
except MachineError as error:
    told += [error.problem.splitlines()[-1], error.remedy]
print(json.dumps(told))
"""


def wheel(folder: Path, name: str, version: str, *requires: str) -> None:
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment of its own, which sees this one's packages."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "shared.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    return folder / "bin" / "python"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    wheel(tmp_path, "tiny_first", "1.0")
    wheel(tmp_path, "tiny_second", "2.0", "tiny-unheard-of")
    return tmp_path


def run(python: Path, folder: Path, *steps: Any) -> list[str]:
    """What is told by a set-up with these steps."""
    words = [str(python), "-c", PROGRAM, json.dumps(steps), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=folder)
    told: list[str] = json.loads(done.stdout.splitlines()[-1])
    return told


FIRST: Any = ("tiny-first", "1.0", {})
SECOND: Any = ("tiny-second", "2.0", {})


def test_it_goes_on_with_the_step_that_failed(python: Path, folder: Path) -> None:
    second = folder / "tiny_second-2.0-py3-none-any.whl"
    kept = second.read_bytes()
    second.unlink()
    told = run(python, folder, FIRST, SECOND)
    assert told[:2] == ["install: tiny-first", "install: tiny-second"]
    assert told[2].startswith("Step `tiny-second` failed: ERROR: ")
    assert told[3] == "Look there. Then run this again: it goes on with this step."
    second.write_bytes(kept)
    assert run(python, folder, FIRST, SECOND) == ["install: tiny-first: there already", "install: tiny-second"]
    assert run(python, folder, FIRST, SECOND)[1] == "install: tiny-second: there already"


def test_another_build_of_the_same_version_is_replaced(python: Path, folder: Path) -> None:
    """As vLLM's wheel for CUDA, which asks for another torch."""
    wheel(folder, "tiny_other", "3.0", "torch==2.11.0")
    step = ("tiny-other", "3.0", {"without": "torch"})
    assert run(python, folder, step) == ["install: tiny-other"]
    assert run(python, folder, step) == ["install: tiny-other"]


def test_another_version_is_replaced(python: Path, folder: Path) -> None:
    wheel(folder, "tiny_first", "1.1+cpu")
    assert run(python, folder, ("tiny-first", "1.1+cpu", {})) == ["install: tiny-first"]
    assert run(python, folder, ("tiny-first", "1.1", {})) == ["install: tiny-first: there already"]
