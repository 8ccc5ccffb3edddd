"""What stands in the fenced blocks of README.md and docs/, and which test runs it.

A fenced block without a language holds command lines; any other says its language, ``text`` where it has none. Each
command line has a line in ``tests/documented.txt``: as it stands in the document, continued lines on one, without
prompt and comment. A block of Python or YAML has one too, ``DOCUMENT: HEADING (python)``; the Python blocks below one
heading make one program. To add something to a document, put its line under one of these headings of the table:

- ``[here]``: ``tests/unit/test_documented.py`` runs it as written in a copy of the tree. For what takes a second.
- ``[tests/...py::test_...]``: that test runs it. It has the line among its strings; ``tests/checkout.py`` gives it a
  copy of the tree, and says what stands for ports and paths. ``tests/e2e/test_documented.py`` has such tests.
- ``[tests/...py::test_...; replaced: ...]``: that test runs the same, but has the line not as written; what differs.
- ``[ci: TEXT]``: continuous integration runs it, no test can; ``TEXT`` stands in ``.ci/run``.
- ``[cannot: REASON]``: it cannot run on a machine of the tests. Files, extras and targets that it names are there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRANSLATED = ROOT / "docs" / "zh"
"""Translations: ``tests/unit/test_translations.py`` holds their blocks against those of the originals."""
DOCUMENTS = [
    ROOT / "README.md",
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if TRANSLATED not in path.parents),
]
TABLE = ROOT / "tests" / "documented.txt"

_FENCED_OR_HEADING = re.compile(r"^ *```(\w*)\n(.*?)^ *```$|^#+ ([^\n]+)$", re.DOTALL | re.MULTILINE)
_CONTINUED = re.compile(r"\s*\\\n\s*")
_PROMPT_OR_COMMENT = re.compile(r"^\s*\w+\$ |(^|\s+)#.*")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        document: Path in the tree.
        heading: The heading that it stands below.
        language: What stands behind the opening fence.
        text: What stands between the fences.
    """

    document: str
    heading: str
    language: str
    text: str

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.document}: {self.heading} ({self.language})"

    @property
    def lines(self) -> list[str]:
        """What the table has of it: the command lines without prompt and comment, or its name."""
        if self.language == "text":
            return []
        if self.language:
            return [self.name]
        lines = (_PROMPT_OR_COMMENT.sub("", line).strip() for line in _CONTINUED.sub(" ", self.text).splitlines())
        return [line for line in lines if line]


@dataclass(frozen=True)
class Entry:
    """One line of the table.

    Attributes:
        line: The command line, or the name of a block.
        test: The test's id without parameters, if a test runs it.
        replaced: What differs, where the test does not have the line as written.
        ci: What continuous integration runs.
        cannot: Why it cannot run here.
    """

    line: str
    test: str = ""
    replaced: str = ""
    ci: str = ""
    cannot: str = ""

    @property
    def is_run_here(self) -> bool:
        """Whether the unit test runs it."""
        return not (self.test or self.ci or self.cannot)


def blocks() -> Iterator[Block]:
    """All blocks of all documents, in their order."""
    for document in DOCUMENTS:
        heading = ""
        for found in _FENCED_OR_HEADING.finditer(document.read_text(encoding="utf-8")):
            language, text, next_heading = found.groups()
            if next_heading is not None:
                heading = next_heading
            else:
                yield Block(str(document.relative_to(ROOT)), heading, language, text)


def text_of(name: str) -> str:
    """The text of the blocks that have this name."""
    return "\n".join(block.text for block in blocks() if block.name == name)


def entries() -> Iterator[Entry]:
    """The table."""
    head = ""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            head = line.strip("[]")
        elif line and not line.startswith("# "):
            yield _entry(line, head)


def problems() -> list[str]:
    """What is missing in the table, and what is too much."""
    there = {line for block in blocks() for line in block.lines}
    listed = Counter(entry.line for entry in entries())
    missing = [f"in no test: {line}" for line in sorted(there - listed.keys())]
    gone = [f"in no document: {line}" for line in sorted(listed.keys() - there)]
    return [*missing, *gone, *(f"twice in the table: {line}" for line, times in listed.items() if times > 1)]


def _entry(line: str, head: str) -> Entry:
    kind, _, rest = head.partition(": ")
    if head == "here":
        return Entry(line)
    if kind in ("ci", "cannot"):
        return Entry(line, **{kind: rest})
    test, _, replaced = head.partition("; replaced: ")
    return Entry(line, test=test, replaced=replaced)
