"""The documents name only what is there: commands, overrides, files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from ascend_serve.cli.main import COMMANDS
from ascend_serve.config import load

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def command_lines(text: str) -> Iterator[list[str]]:
    """The words after ``ascend-serve`` on the lines of code blocks."""
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            if line.startswith("ascend-serve "):
                yield shlex.split(line, comments=True)[1:]


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_commands_are_there(document: Path) -> None:
    named = set(re.findall(r"`ascend-serve ([a-z][a-z-]*)", document.read_text(encoding="utf-8")))
    assert named <= set(COMMANDS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_examples_with_a_shipped_configuration_load(document: Path) -> None:
    for command, *words in command_lines(document.read_text(encoding="utf-8")):
        assert command in COMMANDS
        shipped = [word for word in words if word.startswith("configs/")]
        overrides = [word for word in words if "=" in word and not word.startswith("-")]
        for path in shipped:
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
