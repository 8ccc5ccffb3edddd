"""The documents name only what is there: commands, overrides, files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from ascend_serve.cli.main import app
from ascend_serve.config import load
from ascend_serve.config.key_names import fields
from ascend_serve.config.passthrough import DECIDED_ELSEWHERE
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.config.vllm_arguments import known_arguments
from tests.documents import DOCUMENTS, ROOT, TRANSLATED, blocks

READ = [*DOCUMENTS, *sorted(TRANSLATED.glob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
"""Also translations, and what has no command lines of its own."""
KEY = re.compile(rf"`((?:{'|'.join(AscendServeConfig.model_fields)})\.[a-z_0-9.]+)(?:(?:=|: )([^`]*))?`")
"""A key, or a key with its value, in running text."""
COMMANDS = vars(get_command(app))["commands"]
SHIPPED = [
    line for block in blocks() for line in block.lines if line.startswith("ascend-serve ") and "configs/" in line
]


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", READ, ids=ids)
def test_commands_and_options_in_running_text_are_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for command, words in re.findall(r"`ascend-serve ([a-z][a-z-]*)([^`]*)`", text):
        known = {option for parameter in COMMANDS[command].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", words)) <= known, command


@pytest.mark.parametrize("document", READ, ids=ids)
def test_make_targets_in_running_text_are_there(document: Path) -> None:
    named = set(re.findall(r"`make ([a-z-]+)", document.read_text(encoding="utf-8")))
    assert named <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def is_key(key: str) -> bool:
    """Whether the schema has a key, or vLLM an argument of that name."""
    known = known_arguments()
    arguments = {f"vllm.{name}" for name in (*known.engine, *known.server, *DECIDED_ELSEWHERE)}
    return key in arguments | {name for name, _ in fields()}


def written(path: Path) -> list[tuple[str, str]]:
    """The keys in the running text of a document, with their values; empty where none stands there."""
    return sorted(set(KEY.findall(path.read_text(encoding="utf-8"))))


VALUES = [
    f"{key}={value}"
    for document in READ
    for key, value in written(document)
    if value and not re.search(r"\.\.\.|\b[A-Z]\b|\b[A-Z]{3,} |: | ", value)
]


@pytest.mark.parametrize("document", READ, ids=ids)
def test_keys_in_running_text_are_there(document: Path) -> None:
    assert [key for key, value in written(document) if not value and not is_key(key)] == []


@pytest.mark.parametrize("override", sorted(set(VALUES)))
def test_values_in_running_text_are_allowed(override: str, tmp_path: Path) -> None:
    path = tmp_path / "deployment.yaml"
    path.write_text("model: {path: /models/Qwen3-8B}\ngraph: {capture_sizes: [1, 8]}\n")
    load(path, [override])


@pytest.mark.parametrize("line", SHIPPED)
def test_examples_with_a_shipped_configuration_load(line: str) -> None:
    words = shlex.split(line)
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    for path in words:
        if path.startswith("configs/") and (ROOT / path).exists():
            load(ROOT / path, overrides)


@pytest.mark.parametrize("document", READ, ids=ids)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", READ, ids=ids)
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
