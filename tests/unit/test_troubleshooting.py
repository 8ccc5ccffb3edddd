"""The page of errors has an entry for every class of failure and every exception, and quotes what they say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ascend_serve import errors
from ascend_serve.errors import AscendServeError
from ascend_serve.graph.failure import TREATMENTS, FailureKind, Step, Treatment
from tests.documents import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
GROUPINGS = frozenset({"AscendServeError", "ProblemsError"})
"""Bases that nobody raises."""
ON_WITH = {
    Step.SAME: "the same plan",
    Step.SMALLER: "fewer sizes",
    Step.CHEAPER: "a cheaper mode",
    Step.EAGER: "eager",
}

OF_OTHERS = frozenset(
    {
        "HAProxy crashed during startup",
        "InductorError",
        "Prefix / is being used by application",
        "Unable to find address for",
        "illegal instruction",
        "nms does not exist",
        "segmentation fault",
        "sizeof",
    }
)
"""What Ray, torch, Gloo and Linux say, and nothing here looks for."""
_BETWEEN_WORDS = re.compile(
    r"\.\.\.|[:;,()=\[\]`'\"]|[\w.]+\.(?:KEY|NAME)\b|(?<![\w/.~])[A-Z]+(?![\w.])|\bSIG[A-Z]+|\b\d[\w.]*| or "
)
"""Punctuation, and what stands for something else: dots, words in capitals, keys of any name, signals, numbers."""


def rows(heading: str) -> Iterator[list[str]]:
    """The rows of the tables below a heading."""
    _, _, section = PAGE.partition(f"\n## {heading}\n")
    for row in re.findall(r"^\| (.*) \|$", section.partition("\n## ")[0], re.MULTILINE):
        yield row.split(" | ")


def way(treatment: Treatment) -> str:
    if treatment.of_host:
        return "the start ends; eager where it struck a graph"
    return ON_WITH[treatment.step] + (", with fresh workers" if treatment.fresh else "")


ENTRIES = {cells[0].strip("`"): cells[1:] for cells in rows("By class")}
EXCEPTIONS = [
    raised
    for name, raised in vars(errors).items()
    if isinstance(raised, type) and issubclass(raised, AscendServeError) and name not in GROUPINGS
]


@pytest.mark.parametrize("kind", FailureKind)
def test_a_class_of_failures_has_an_entry_that_says_how_the_group_goes_on(kind: FailureKind) -> None:
    meaning, told = ENTRIES[kind.value]
    assert meaning
    assert told == way(TREATMENTS[kind])


@pytest.mark.parametrize("raised", EXCEPTIONS, ids=lambda raised: raised.__name__)
def test_an_exception_has_an_entry_with_its_exit_code(raised: type[AscendServeError]) -> None:
    code, text, above = ENTRIES[raised.__name__]
    assert code == str(raised.exit_code)
    assert text
    assert above


def test_the_page_tells_of_nothing_else() -> None:
    known = {kind.value for kind in FailureKind} | {raised.__name__ for raised in EXCEPTIONS}
    assert ENTRIES.keys() == known | {"class", "exception"}


def test_every_exception_of_the_package_is_defined_where_the_page_looks() -> None:
    bases = {name for name, raised in vars(errors).items() if isinstance(raised, type) and name.endswith("Error")}
    defined = [
        (path.name, node.name)
        for path, tree in _modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and bases & {ast.unparse(base).rpartition(".")[2] for base in node.bases}
    ]
    assert defined
    assert {file for file, _ in defined} == {"errors.py"}


QUOTES = [
    quoted[0] or quoted[1]
    for row in re.findall(r"^\| (.*?) \| .* \|$", PAGE.partition("\n## By class")[0], re.MULTILINE)
    for quoted in re.findall(r"``(.+?)``|`([^`]+)`", row)
]


@pytest.mark.parametrize("quote", QUOTES)
def test_what_the_page_quotes_is_said(quote: str) -> None:
    pieces = (piece.strip() for piece in _BETWEEN_WORDS.split(quote))
    assert [piece for piece in pieces if piece not in OF_OTHERS and not _is_said(piece)] == []


def _is_said(piece: str) -> bool:
    """Whether the package has these words, in one text or divided between two."""
    words = piece.lower().replace("_", " ").split()
    return not words or any(
        " ".join(words[:cut]) in _texts() and " ".join(words[cut:]) in _texts() for cut in range(len(words))
    )


@cache
def _texts() -> str:
    """All texts of the package."""
    found = [
        node.value
        for _, tree in _modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return "\n".join([*found, (ROOT / "Makefile").read_text(encoding="utf-8")]).lower().replace("_", " ")


@cache
def _modules() -> tuple[tuple[Path, ast.Module], ...]:
    paths = sorted((ROOT / "ascend_serve").rglob("*.py"))
    return tuple((path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths)
