"""Translations have the blocks, the headings, the tables and the targets of their originals."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.documents import ROOT, TRANSLATED

TRANSLATIONS = {"README.md": ROOT / "README.md", "graph_modes.md": ROOT / "docs" / "graph_modes.md"}

_FENCED = re.compile(r"^```\w*\n.*?^```$", re.DOTALL | re.MULTILINE)


def blocks(text: str) -> list[str]:
    """Fenced blocks as they stand there."""
    return _FENCED.findall(text)


def headings(text: str) -> list[int]:
    """The level of each heading."""
    return [len(found) for found in re.findall(r"^(#+) ", _FENCED.sub("", text), re.MULTILINE)]


def tables(text: str) -> list[list[str]]:
    """Of each row of a table what stands there as code: commands, options, modes."""
    rows = re.findall(r"^\|.*\|$", _FENCED.sub("", text), re.MULTILINE)
    return [sorted(re.findall(r"`[^`]+`", row)) for row in rows]


@pytest.mark.parametrize("part", [blocks, headings, tables], ids=lambda part: part.__name__)
@pytest.mark.parametrize("name", TRANSLATIONS)
def test_it_has_what_the_original_has(name: str, part: Callable[[str], list[object]]) -> None:
    original, translation = TRANSLATIONS[name], TRANSLATED / name
    assert part(translation.read_text(encoding="utf-8")) == part(original.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_it_leads_where_the_original_leads(name: str) -> None:
    there = targets(TRANSLATIONS[name])
    assert targets(TRANSLATED / name) >= there - {TRANSLATED / name}


def targets(document: Path) -> set[Path]:
    """The documents that a document links to; instead of an original the translation, where there is one."""
    found = re.findall(r"\]\(([^)#:\s]+)", document.read_text(encoding="utf-8"))
    paths = {Path(os.path.normpath(document.parent / target)) for target in found}
    translated = {original: TRANSLATED / name for name, original in TRANSLATIONS.items()}
    return {translated.get(path, path) for path in paths if path.suffix == ".md"}


def test_every_translation_is_held_against_an_original() -> None:
    assert sorted(path.name for path in TRANSLATED.glob("*.md")) == sorted(TRANSLATIONS)
