"""The documents name only what is there: commands, overrides, files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from ascend_serve.cli.main import app
from ascend_serve.config import load
from tests.documents import DOCUMENTS, ROOT, blocks

COMMANDS = vars(get_command(app))["commands"]
SHIPPED = [
    line for block in blocks() for line in block.lines if line.startswith("ascend-serve ") and "configs/" in line
]


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_commands_and_options_in_running_text_are_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for command, words in re.findall(r"`ascend-serve ([a-z-]+)([^`]*)`", text):
        known = {option for parameter in COMMANDS[command].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", words)) <= known, command


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_make_targets_in_running_text_are_there(document: Path) -> None:
    named = set(re.findall(r"`make ([a-z-]+)", document.read_text(encoding="utf-8")))
    assert named <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("line", SHIPPED)
def test_examples_with_a_shipped_configuration_load(line: str) -> None:
    words = shlex.split(line)
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    for path in words:
        if path.startswith("configs/") and (ROOT / path).exists():
            load(ROOT / path, overrides)


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_modules_are_there(document: Path) -> None:
    named = re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py|[a-z_]+/)`", document.read_text(encoding="utf-8"))
    known = {str(path.relative_to(ROOT / "ascend_serve")) for path in (ROOT / "ascend_serve").rglob("*.py")}
    names = known | {Path(path).name for path in known} | {f"{Path(path).parent}/" for path in known}
    assert {name for name in named if not (ROOT / name).exists()} <= names


def test_the_benchmarks_that_there_are_have_a_row() -> None:
    table = re.findall(r"^\| (`.*?) \|", (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8"), re.MULTILINE)
    named = {name for cell in table for name in re.findall(r"`(\w+)`", cell)}
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text()}
    assert named == modules | {path.parent.name for path in (ROOT / "benchmarks").glob("*/__main__.py")}
