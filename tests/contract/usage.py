"""Where our code uses an interface of a vendor, and what it uses at all; read by syntax tree."""

from __future__ import annotations

import ast
import builtins
import hashlib
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from ray.actor import ActorMethod

from tests.contract.interfaces import TORCH_NPU, VLLM, VLLM_0_23_0, VLLM_ASCEND, VLLM_INSTALLED, XLITE
from tests.contract.symbols import TEXT
from tests.contract.vendors import recorded_vllm

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ascend_serve"
VENDORS = ("vllm", "vllm_ascend", "torch_npu", "xlite")
TABLES = (VLLM, VLLM_0_23_0, VLLM_INSTALLED, VLLM_ASCEND, TORCH_NPU, XLITE)


@dataclass(frozen=True)
class Use:
    """One place of our code.

    Attributes:
        name: What stands there.
        place: File and line.
    """

    name: str
    place: str


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def needed_name(need: str) -> str:
    """What our code writes to use ``need``: the member's name, or the text."""
    if need.startswith(TEXT):
        return need.removeprefix(TEXT)
    return need.partition("(")[0].rpartition(".")[2]


def places(need: str, module: str) -> list[str]:
    """Files and lines of our code that use ``need`` of ``module``."""
    wanted = needed_name(need)
    if wanted == "__init__":
        wanted = need.partition(".")[0]
    return [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(_tree(path))
        if _names(node, wanted, module)
    ]


def _names(node: ast.AST, wanted: str, module: str) -> bool:
    match node:
        case ast.Attribute(attr=name) | ast.keyword(arg=name) | ast.Name(id=name) | ast.FunctionDef(name=name):
            return name == wanted
        case ast.ClassDef(name=name):
            return name == wanted
        case ast.ImportFrom(module=source, names=aliases):
            return source == module and any(alias.name == wanted for alias in aliases)
        case ast.Constant(value=str() as text):
            return wanted in text.split(".") or text in (wanted, module)
    return False


def imports(layer: str) -> Iterator[Use]:
    """Names that a layer of ours imports from a vendor, as ``module:name``; modules that it names in texts."""
    for path in sorted((PACKAGE / layer).rglob("*.py")):
        for node in ast.walk(_tree(path)):
            place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in VENDORS:
                yield from (Use(f"{node.module}:{alias.name}", place) for alias in node.names)
            elif isinstance(node, ast.Import):
                yield from (Use(f"{a.name}:", place) for a in node.names if a.name.partition(".")[0] in VENDORS)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _is_dotted(node.value):
                yield Use(f"{node.value}:", place)


def _is_dotted(text: str) -> bool:
    first, dot, rest = text.partition(".")
    return bool(dot) and first in VENDORS and all(part.isidentifier() for part in rest.split("."))


def attributes(layer: str) -> Iterator[Use]:
    """Attributes that a layer reads or sets of objects that are not ours, Ray's, torch's or of the standard library.

    By name alone: an attribute that any of our own classes or any built-in type has counts as that.
    """
    known = _our_names() | _names_of_others()
    for path in sorted((PACKAGE / layer).rglob("*.py")):
        others = set(_imported_from_others(_tree(path)))
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Attribute) and node.attr not in known and _root(node) not in others:
                yield Use(node.attr, f"{path.relative_to(ROOT)}:{node.lineno}")
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
                name = node.args[1]
                if isinstance(name, ast.Constant) and name.value not in known and _root(node.args[0]) not in others:
                    yield Use(str(name.value), f"{path.relative_to(ROOT)}:{node.lineno}")


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _imported_from_others(tree: ast.Module) -> Iterator[str]:
    """Names that stand for modules, classes and functions of packages that are no vendors."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            for alias in node.names:
                if (module or alias.name).partition(".")[0] not in VENDORS:
                    yield alias.asname or alias.name.partition(".")[0]


@cache
def _our_names() -> frozenset[str]:
    """Members of our own classes, and modules of our packages.

    Of a class that is built on a vendor's, names that a vendor's class has are the vendor's.
    """
    names = {path.stem for path in PACKAGE.rglob("*.py")}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ClassDef):
                ours = set(_members(node))
                names |= ours - _vendor_members() if _has_vendor_base(node, _tree(path)) else ours
    return frozenset(names)


def _has_vendor_base(node: ast.ClassDef, tree: ast.Module) -> bool:
    from_vendors = {
        alias.asname or alias.name
        for item in ast.walk(tree)
        if isinstance(item, ast.ImportFrom) and (item.module or "").partition(".")[0] in VENDORS
        for alias in item.names
    }
    return any(_root(base) in from_vendors for base in node.bases)


@cache
def _vendor_members() -> frozenset[str]:
    recorded = recorded_vllm().modules.values()
    return frozenset(name.rpartition(".")[2] for symbols in recorded for name in symbols if "." in name)


def _members(node: ast.ClassDef) -> Iterator[str]:
    for item in ast.walk(node):
        match item:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case (
                ast.AnnAssign(target=ast.Name(id=name))
                | ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store())
            ):
                yield name


@cache
def _names_of_others() -> frozenset[str]:
    """Members of types whose objects our code holds and that are no vendor's."""
    kinds = [kind for kind in vars(builtins).values() if isinstance(kind, type)]
    kinds += [Path, logging.Logger, os.stat_result, threading.Thread, type(hashlib.sha256()), torch.Tensor, ActorMethod]
    return frozenset(name for kind in kinds for name in dir(kind))


def table_names() -> frozenset[str]:
    """All names that the tables hold, at any place of a dotted name."""
    names = set()
    for table in TABLES:
        for module, needs in table.items():
            names |= set(module.split("."))
            for need in needs:
                names |= set(need.removeprefix(TEXT).partition("(")[0].split("."))
    return frozenset(names)
