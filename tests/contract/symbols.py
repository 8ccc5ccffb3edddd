"""Names and signatures of Python modules, read from their sources by syntax tree; nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Symbols = dict[str, list[str] | None]
"""Names of a module, members as ``Class.member``; of what can be called also its parameters.

A parameter without a default ends with ``!``; ``*args`` and ``**kwargs`` stand with their stars.
"""

TEXT = "text:"
"""Prefix of a text that a module holds, wherever it stands."""


@dataclass(frozen=True)
class Sources:
    """The sources of one release, as a folder of packages.

    Attributes:
        release: Name and version.
        folder: What its modules lie in.
    """

    release: str
    folder: Path

    def symbols(self, module: str) -> Symbols | None:
        """Everything that ``module`` has; ``None`` where there is no such module."""
        path = self.folder.joinpath(*module.split("."))
        for file in (path / "__init__.py", path.with_suffix(".py"), path.with_suffix(".pyi")):
            if file.exists():
                return read_symbols(file.read_text(encoding="utf-8"))
        return None


@dataclass(frozen=True)
class Recording:
    """Symbols of a release that were recorded before, by module."""

    release: str
    modules: Mapping[str, Symbols]

    def symbols(self, module: str) -> Symbols | None:
        """What was recorded of ``module``; ``None`` where nothing was."""
        return self.modules.get(module)


def read_symbols(source: str) -> Symbols:
    """All symbols of a module, and its texts."""
    tree = ast.parse(source)
    found: Symbols = dict(_of_body(tree.body, ""))
    found |= {f"{TEXT}{text}": None for text in _texts(tree)}
    found |= dict.fromkeys(_kernels(tree))
    return found


def _of_body(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, list[str] | None]]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            attribute = any(ast.unparse(decorator).endswith("property") for decorator in node.decorator_list)
            yield prefix + node.name, None if attribute else _parameters(node.args)
            owner, holders = (prefix, ["self"]) if prefix else (f"{node.name}.", [arg.arg for arg in node.args.args])
            yield from ((owner + name, None) for name in _set_on(holders, node))
        elif isinstance(node, ast.ClassDef):
            yield from _of_class(node, prefix)
        elif isinstance(node, ast.If | ast.Try):
            handlers = [statement for handler in getattr(node, "handlers", ()) for statement in handler.body]
            yield from _of_body([*node.body, *handlers, *node.orelse], prefix)
        else:
            yield from ((prefix + name, None) for name in _bound(node))


def _of_class(node: ast.ClassDef, prefix: str) -> Iterator[tuple[str, list[str] | None]]:
    members = dict(_of_body(node.body, f"{prefix}{node.name}."))
    fields = [
        f"{item.target.id}{'' if item.value is not None else '!'}"
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    ]
    yield prefix + node.name, members.get(f"{prefix}{node.name}.__init__") or ["self!", *fields]
    yield from members.items()


def _bound(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def _set_on(holders: list[str], function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Attributes that a method sets on ``self``, or a function on its parameters."""
    for node in ast.walk(function):
        match node:
            case ast.Attribute(value=ast.Name(id=name), ctx=ast.Store()) if name in holders:
                yield node.attr


def _kernels(tree: ast.AST) -> Iterator[str]:
    """Compiled operators that are called, for example ``torch.ops._C.rms_norm``."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Attribute(value=ast.Attribute(value=ast.Name("torch"), attr="ops"))):
                yield ast.unparse(node)


def _parameters(args: ast.arguments) -> list[str]:
    positional = [*args.posonlyargs, *args.args]
    required = len(positional) - len(args.defaults)
    named = [f"{arg.arg}{'!' if index < required else ''}" for index, arg in enumerate(positional)]
    named += [f"*{args.vararg.arg}"] if args.vararg else []
    named += [
        f"{arg.arg}{'!' if default is None else ''}"
        for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
    ]
    return named + ([f"**{args.kwarg.arg}"] if args.kwarg else [])


def _texts(tree: ast.AST) -> Iterator[str]:
    """Short texts: names of options, and beginnings of messages."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and 0 < len(node.value) < 100:
            yield node.value


def problem(symbols: Symbols | None, module: str, need: str) -> str:
    """What of ``need`` a module does not fulfil; empty when it does.

    Args:
        symbols: Of the module.
        module: Its dotted name.
        need: ``name``, ``Class.member``, ``name(parameter, ...)`` with everything that is passed by name or position,
            or ``text:...``.
    """
    if symbols is None:
        return f"there is no module {module}"
    name, _, rest = need.partition("(") if not need.startswith(TEXT) else (need, "", "")
    if name not in symbols:
        return f"{module} has no {name}"
    if not rest:
        return ""
    passed = [word.strip() for word in rest.rstrip(")").split(",") if word.strip()]
    return _call_problem(symbols[name], name, passed)


def _call_problem(parameters: Any, name: str, passed: list[str]) -> str:
    if parameters is None:
        return f"{name} cannot be called"
    known = {parameter.strip("!*") for parameter in parameters}
    unknown = [word for word in passed if word not in known]
    if unknown and not any(parameter.startswith("**") for parameter in parameters):
        return f"{name} takes no {', '.join(unknown)}"
    missing = [p.strip("!") for p in parameters if p.endswith("!") and p not in ("self!", "cls!")]
    missing = [word for word in missing if word not in passed]
    return f"{name} needs {', '.join(missing)}" if missing else ""
