"""The page of errors has an entry for every class of failure and every exception."""

from __future__ import annotations

import re
from collections.abc import Iterator

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
    code, text, _ = ENTRIES[raised.__name__]
    assert code == str(raised.exit_code)
    assert text


def test_the_page_tells_of_nothing_else() -> None:
    known = {kind.value for kind in FailureKind} | {raised.__name__ for raised in EXCEPTIONS}
    assert ENTRIES.keys() == known | {"class", "exception"}
