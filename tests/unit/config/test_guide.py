"""The page on configuration says what is so: its command lines, its overrides and its Python run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ascend_serve.cli.arguments import load_models
from ascend_serve.config import load
from ascend_serve.config.reference import reference

ROOT = Path(__file__).parents[3]
GUIDE = reference().partition("\n## model\n")[0]
OVERRIDES = [
    word for cell in re.findall(r"^\| (.*?`) \| ", GUIDE, re.MULTILINE) for word in re.findall("`(.*?)`", cell)
]
LINES = [
    line for block in re.findall(r"^```\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE) for line in block.splitlines()
]
SERVE = [shlex.split(line)[2:] for line in LINES if line.startswith("ascend-serve serve ")]
PYTHON = re.findall(r"^```python\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "site.yaml").write_text("serving: {host: 0.0.0.0}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    return tmp_path


def test_there_is_something_to_try() -> None:
    assert len(OVERRIDES) >= 8
    assert len(LINES) >= 6
    assert SERVE
    assert PYTHON


@pytest.mark.parametrize("override", OVERRIDES)
def test_overrides_are_taken(override: str) -> None:
    load(ROOT / "configs" / "demo.yaml", shlex.split(override))


@pytest.mark.parametrize("line", [line for line in LINES if not line.startswith("ascend-serve serve ")])
def test_command_lines_run(folder: Path, line: str) -> None:
    done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", SERVE, ids=" ".join)
@pytest.mark.usefixtures("folder")
def test_what_is_served_loads(words: list[str]) -> None:
    [config] = load_models(Path(words[0]), words[1:])
    assert config.serving.host == ("0.0.0.0" if "+site.yaml" in words else "127.0.0.1")


@pytest.mark.parametrize("code", PYTHON)
def test_python_runs(code: str) -> None:
    exec(compile(code, "docs/configuration.md", "exec"), {})
