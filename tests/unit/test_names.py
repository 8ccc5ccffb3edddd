"""One name means one thing: public classes and modules of the package, read by syntax tree."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from ascend_serve.graph.modes import RuntimeName

PACKAGE = Path(__file__).parents[2] / "ascend_serve"

PARALLELS: Mapping[str, str] = {
    "bench": "a command, and the package that it drives",
    "config": "a command, and the package that it drives",
    "doctor": "a command, and the package that it drives",
    "install": "a command, and the package that it drives",
    "logs": "a command, and what it shows",
    "plan": "a command, and what it shows",
    "report": "a command, and what it shows",
    "runtimes": "runtimes: what decisions know of them, and what a rank does with them",
    "situation": "what the rules look at, and how planning reads it from a configuration",
    **dict.fromkeys(RuntimeName, "a runtime: what decisions know of it, and what a rank does with it"),
}
"""Modules that share a name on purpose, each with the reason."""


def classes(path: Path) -> Iterator[str]:
    """Public classes that a module defines, and its public aliases of types."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case (
                ast.ClassDef(name=name)
                | ast.Assign(targets=[ast.Name(id=name)])
                | ast.AnnAssign(target=ast.Name(id=name))
            ):
                if name[0].isupper() and not name.isupper():
                    yield name


def modules(path: Path) -> Iterator[str]:
    """The name of a module, or of the package that it begins."""
    yield path.parent.name if path.stem == "__init__" else path.stem


def twice(names_of: Mapping[Path, list[str]]) -> dict[str, list[str]]:
    """Names that stand in several files, with these."""
    found: dict[str, list[str]] = defaultdict(list)
    for path, names in names_of.items():
        for name in names:
            found[name].append(str(path.relative_to(PACKAGE)))
    return {name: places for name, places in found.items() if len(places) > 1}


SOURCES = sorted(PACKAGE.rglob("*.py"))


def test_no_two_public_classes_share_a_name() -> None:
    assert twice({path: list(classes(path)) for path in SOURCES}) == {}


def test_modules_share_a_name_only_on_purpose() -> None:
    shared = twice({path: list(modules(path)) for path in SOURCES})
    assert {name: places for name, places in shared.items() if name not in PARALLELS} == {}
    assert shared.keys() == PARALLELS.keys(), "a reason without a pair"
