"""Imports run one way; what may import what is the table ``ALLOWED``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "ascend_serve"

ALLOWED: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "releases": frozenset(),
    "cache": frozenset(),
    "graph": frozenset({"errors", "releases"}),
    "events": frozenset({"graph"}),
    "config": frozenset({"errors", "graph"}),
    "planning": frozenset({"errors", "releases", "graph", "config", "node", "cluster"}),
    "capture": frozenset({"errors", "cache", "graph", "events"}),
    "telemetry": frozenset({"errors", "cache", "graph", "events", "capture"}),
    "emulated": frozenset({"errors", "cache", "graph", "config"}),
    "engine": frozenset(
        {"errors", "releases", "graph", "config", "capture", "emulated", "telemetry", "node", "cluster"}
    ),
    "node": frozenset({"errors", "releases", "cache", "graph", "config", "emulated"}),
    "cluster": frozenset({"errors", "cache", "graph", "config", "node"}),
    "doctor": frozenset({"errors", "releases", "graph", "config", "emulated", "node", "cluster", "planning"}),
    "install": frozenset({"errors", "releases", "node", "doctor"}),
    "api": frozenset({"errors", "config"}),
    "replica": frozenset(
        {
            "errors",
            "cache",
            "graph",
            "config",
            "events",
            "capture",
            "telemetry",
            "emulated",
            "engine",
            "node",
            "cluster",
            "planning",
            "api",
        }
    ),
    "serving": frozenset(
        {
            "errors",
            "config",
            "events",
            "capture",
            "telemetry",
            "node",
            "cluster",
            "doctor",
            "planning",
            "api",
            "replica",
        }
    ),
    "offline": frozenset({"errors", "config", "capture", "telemetry", "cluster", "doctor", "planning", "replica"}),
    "bench": frozenset({"errors", "telemetry"}),
    "cli": frozenset(
        {
            "errors",
            "releases",
            "graph",
            "config",
            "events",
            "capture",
            "telemetry",
            "emulated",
            "node",
            "cluster",
            "doctor",
            "install",
            "planning",
            "api",
            "replica",
            "serving",
            "offline",
            "bench",
        }
    ),
}
"""For each package of ours, the others that it may import; itself always."""

HARDWARE_FREE = ("errors", "graph", "config", "planning")
ENGINES = frozenset({"torch", "torch_npu", "vllm", "vllm_ascend", "ray", "xlite"})
KNOWS_VLLM = frozenset({"engine", "emulated", "api", "bench"})
"""Packages that import vLLM: the seams, and those built on what ``vllm serve`` and ``vllm bench`` are made of."""
SANS_IO = ("capture/session.py", "capture/messages.py", "capture/snapshot.py", "events.py", "graph")
"""Modules and packages that neither read nor write, and know no time."""
IO = frozenset(
    {"asyncio", "io", "logging", "os", "pathlib", "shutil", "socket", "subprocess", "threading", "time", "yaml"}
)

SOURCES = sorted(PACKAGE.rglob("*.py"))


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path, *, at_import: bool = False) -> Iterator[str]:
    """Dotted names that ``path`` imports; with ``at_import`` only those that importing it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in _at_import(tree) if at_import else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def called(path: Path) -> set[str]:
    """Functions that ``path`` calls by their name alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {function.id for function in calls if isinstance(function, ast.Name)}


def _at_import(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        if not typing_only and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from _at_import(child)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    if path.parent == PACKAGE and path.name == "__init__.py":
        allowed = frozenset(ALLOWED)
    else:
        assert layer(path) in ALLOWED, f"a new package: say in ALLOWED what it may import ({layer(path)})"
        allowed = ALLOWED[layer(path)] | {layer(path)}
    ours = {name.split(".")[1] for name in imported(path) if name.startswith("ascend_serve.")}
    assert ours - {"__version__"} <= allowed


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if layer(path) in HARDWARE_FREE], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_decisions_need_no_hardware(path: Path) -> None:
    """``graph`` never names an engine; ``config`` asks vLLM for its argument names, but only when told to."""
    names = {name.split(".")[0] for name in imported(path, at_import=layer(path) == "config")}
    assert not names & ENGINES


def test_few_packages_know_vllm() -> None:
    vendors = {"vllm", "vllm_ascend", "torch", "torch_npu", "xlite"}
    assert {layer(path) for path in SOURCES if {name.split(".")[0] for name in imported(path)} & vendors} == KNOWS_VLLM


def test_a_replica_has_vllm_only_when_its_engine_core_imports_it_too() -> None:
    """What a replica begins with starts the other processes that import vLLM, before it does so itself."""
    seen, coming = set[Path](), {PACKAGE / "replica" / "application.py", PACKAGE / "replica" / "openai_engine.py"}
    while coming:
        path = coming.pop()
        seen.add(path)
        names = set(imported(path, at_import=True))
        assert not {name.split(".")[0] for name in names} & (ENGINES - {"ray"}), path
        coming |= {file for name in names for file in _files(name)} - seen
    assert PACKAGE / "engine" / "prefork.py" in seen


def _files(name: str) -> Iterator[Path]:
    """Files that importing ``name`` runs, as far as they are of this package."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        place = PACKAGE.parent.joinpath(*parts[:end])
        yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())


@pytest.mark.parametrize("name", SANS_IO)
def test_does_no_input_or_output(name: str) -> None:
    paths = [path for path in SOURCES if path.is_relative_to(PACKAGE / name)]
    used = {imported_name.split(".")[0] for path in paths for imported_name in imported(path)}
    assert paths
    assert not used & (ENGINES | IO)
    assert not [path for path in paths if "open" in called(path)]


def test_layers_have_no_cycle() -> None:
    for name, below in ALLOWED.items():
        assert all(name not in ALLOWED[other] for other in below), name
