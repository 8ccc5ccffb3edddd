"""Where our code uses an interface of a vendor, and what it uses at all; read by syntax tree."""

from __future__ import annotations

import argparse
import ast
import asyncio
import builtins
import hashlib
import logging
import os
import re
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

import fastapi
import httpx
import numpy as np
import torch
from pydantic import BaseModel, SecretStr
from ray.actor import ActorMethod
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from tests.contract.interfaces import Table
from tests.contract.symbols import TEXT

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ascend_serve"
VENDORS = ("vllm", "vllm_ascend", "torch_npu", "xlite")
CONFIGURATION = "vllm_config"
"""What a module calls vLLM's configuration that takes one without importing its class."""


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


def modules() -> dict[str, tuple[Path, ...]]:
    """Our modules that touch a vendor, by package; of ``engine``, whose purpose that is, all of them."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        package = path.relative_to(PACKAGE).parts[0]
        if package == "engine" or any(_touches(node) for node in ast.walk(_tree(path))):
            found.setdefault(package, []).append(path)
    return {package: tuple(paths) for package, paths in found.items()}


def _touches(node: ast.AST) -> bool:
    match node:
        case ast.ImportFrom(module=str() as module):
            return module.partition(".")[0] in VENDORS
        case ast.Import(names=names):
            return any(alias.name.partition(".")[0] in VENDORS for alias in names)
        case ast.arg(arg=name) | ast.Attribute(attr=name):
            return name == CONFIGURATION
    return False


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
    index = _index()
    found = {*index.get(wanted, ()), *index.get(f"import {module}:{wanted}", ()), *index.get(f"text {module}", ())}
    return [f"{path}:{line}" for path, line in sorted(found | {*index.get(f"text {wanted}", ())})]


@cache
def _index() -> dict[str, list[tuple[str, int]]]:
    """Files and lines of our code by the names that stand there."""
    found: dict[str, list[tuple[str, int]]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(_tree(path)):
            for name in _names(node):
                found.setdefault(name, []).append((str(path.relative_to(ROOT)), vars(node)["lineno"]))
    return found


def _names(node: ast.AST) -> Iterator[str]:
    """What a node names: an attribute, a name that is imported from a module, a text and the words between its dots."""
    match node:
        case ast.Attribute(attr=name) | ast.keyword(arg=str() as name) | ast.Name(id=name):
            yield name
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.ImportFrom(module=source, names=aliases):
            yield from (f"import {source}:{alias.name}" for alias in aliases)
        case ast.Constant(value=str() as text):
            yield f"text {text}"
            yield from text.split(".")


def imports(paths: Iterable[Path]) -> Iterator[Use]:
    """Names that modules of ours import from a vendor, as ``module:name``; modules that they name in texts."""
    for path in paths:
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


def attributes(paths: Iterable[Path]) -> Iterator[Use]:
    """Attributes that modules use of objects that are not ours, Ray's, torch's or of the standard library.

    By name alone: an attribute that any of our own classes or any built-in type has counts as that. What a class of
    ours overrides of a vendor's is used, too.
    """
    known = _our_names() | _names_of_others()
    for path in paths:
        others = set(_imported_from_others(_tree(path)))
        for node in ast.walk(_tree(path)):
            for name, owner in _used(node, _tree(path)):
                if name not in known and _root(owner) not in others:
                    yield Use(name, f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}")


def _used(node: ast.AST, tree: ast.Module) -> Iterator[tuple[str, ast.expr | None]]:
    """Names that ``node`` reads, sets or overrides, each with what it belongs to."""
    match node:
        case ast.Attribute(attr=name, value=owner):
            yield name, owner
        case ast.Call(func=ast.Name("getattr" | "hasattr"), args=[owner, ast.Constant(str() as name), *_]):
            yield name, owner
        case ast.ClassDef():
            inherited = _inherited(node, tree)
            yield from ((name, None) for name in _members(node) if name in inherited)


def private_names() -> Iterator[Use]:
    """Private names of others that are used anywhere; of vendors too, whose names are in tables of their own."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(_tree(path)):
            for name in _private(node):
                yield Use(name, f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}")


def _private(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Attribute(attr=name) | ast.keyword(arg=str() as name):
            names = [name] if name not in _our_names() else []
        case ast.ImportFrom(module=str() as module, names=aliases):
            hidden = "._" in module
            yield from (alias.name for alias in aliases if hidden)
            names = [alias.name for alias in aliases]
        case _:
            names = []
    yield from (name for name in names if name.startswith("_") and not name.startswith("__"))


def _root(node: ast.expr | None) -> str:
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
                names |= set(_members(node)) - _inherited(node, _tree(path))
    return frozenset(names)


def _inherited(node: ast.ClassDef, tree: ast.Module) -> frozenset[str]:
    """Members that a class of ours gets from classes of the installed vLLM; names that every class has do not count."""
    bases = {_root(base) for base in node.bases}
    return frozenset(
        member
        for item in ast.walk(tree)
        if isinstance(item, ast.ImportFrom) and (item.module or "").partition(".")[0] == "vllm"
        for alias in item.names
        if (alias.asname or alias.name) in bases
        for member in dir(getattr(import_module(str(item.module)), alias.name))
        if not member.startswith("__")
    )


def _members(node: ast.ClassDef) -> Iterator[str]:
    for statement in node.body:
        if isinstance(statement, ast.Assign):
            yield from (target.id for target in statement.targets if isinstance(target, ast.Name))
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
    kinds: list[object] = [kind for kind in vars(builtins).values() if isinstance(kind, type)]
    kinds += [
        Path,
        logging.Logger,
        os.stat_result,
        threading.Thread,
        type(hashlib.sha256()),
        torch.Tensor,
        torch.nn.Module,
        BaseModel,
        struct.Struct,
        np.dtype,
        np.ndarray,
        ActorMethod,
        socket.socket,
    ]
    kinds += [asyncio.Event, asyncio.Task, ContextVar, argparse.ArgumentParser, argparse.ArgumentError(None, "")]
    kinds += [fastapi.FastAPI(), SecretStr, httpx.AsyncClient, httpx.Response(200), re.Pattern]
    kinds += [PlacementGroup, PlacementGroupSchedulingStrategy(PlacementGroup.empty())]
    return frozenset(name for kind in kinds for name in dir(kind))


def table_names(tables: Iterable[Table]) -> frozenset[str]:
    """All names that ``tables`` hold, at any place of a dotted name."""
    names = set()
    for table in tables:
        for module, needs in table.items():
            names |= set(module.split("."))
            for need in needs:
                names |= set(need.removeprefix(TEXT).partition("(")[0].split("."))
    return frozenset(names)
