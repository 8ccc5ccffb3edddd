"""The arguments of ``vllm serve``, read from vLLM's sources by syntax tree: importing vLLM takes many seconds.

Written for vLLM 0.23.0, 0.32.0 and 0.33.0, whose server options are in different modules.

    python -m ascend_serve.config.vllm_source RELEASE=FOLDER ...

records them from unpacked releases in ``vllm_arguments.json``, so that they are known where no vLLM is installed.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

RECORDED = Path(__file__).with_name("vllm_arguments.json")

_ENGINE_CLASSES = ("EngineArgs", "AsyncEngineArgs")
_SERVER_CLASSES = ("BaseFrontendArgs", "FrontendArgs")
_SERVER_MODULES = (
    "vllm.entrypoints.common.cli_args",
    "vllm.entrypoints.launchers.cli_args",
    "vllm.entrypoints.openai.cli_args",
)
_NOT_CHECKED = "Any"
_REGISTRIES = {
    "tool_call_parser": ("vllm.tool_parsers", "_TOOL_PARSERS_TO_REGISTER"),
    "reasoning_parser": ("vllm.reasoning", "_REASONING_PARSERS_TO_REGISTER"),
}
"""Where the names stand that some arguments may have."""


class VllmArguments(BaseModel):
    """The arguments of one vLLM, by name, with their types as Python spells them.

    Attributes:
        engine: Fields of ``AsyncEngineArgs``.
        server: Options of the API server.
        sections: Keys of the arguments that are mappings for a configuration class.
        names: Names that arguments may have whose type only says text.
    """

    model_config = ConfigDict(frozen=True)

    engine: dict[str, str] = {}
    server: dict[str, str] = {}
    sections: dict[str, tuple[str, ...]] = {}
    names: dict[str, tuple[str, ...]] = {}

    def merged(self, other: VllmArguments) -> VllmArguments:
        """What either of two releases has; where they differ in a type, nothing is known of it."""
        return VllmArguments(
            engine=_either(self.engine, other.engine),
            server=_either(self.server, other.server),
            sections=_both(self.sections, other.sections),
            names=_both(self.names, other.names),
        )


def read_arguments(site: Path) -> VllmArguments:
    """Read the arguments of the vLLM below ``site``, a folder of packages."""
    source = _Source(site)
    server = next((name for name in _SERVER_MODULES if source.file(name) is not None), _SERVER_MODULES[0])
    engine = dict(source.fields("vllm.engine.arg_utils", _ENGINE_CLASSES))
    found = {name: annotation for name, (annotation, _) in engine.items()}
    by_hand = dict.fromkeys(source.options(server, "make_arg_parser"), _NOT_CHECKED)
    named = {name: annotation for name, (annotation, _) in source.fields(server, _SERVER_CLASSES)}
    sections = {name: keys for name, (_, keys) in engine.items() if keys}
    speculative = source.keys("vllm.config", "SpeculativeConfig")
    if speculative:
        sections["speculative_config"] = speculative
    names = {name: source.mapping_keys(*place) for name, place in _REGISTRIES.items()}
    return VllmArguments(engine=found, server={**by_hand, **named}, sections=sections, names=names)


class _Source:
    """Modules below a folder of packages."""

    def __init__(self, site: Path) -> None:
        self._site = site
        self._tree = cache(self._parse)

    def file(self, module: str) -> Path | None:
        path = self._site.joinpath(*module.split("."))
        return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.exists()), None)

    def fields(self, module: str, classes: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, tuple[str, ...]]]]:
        """Fields of classes, each with its type and, where that is a configuration class, the keys of it."""
        for node in self._tree(module).body:
            if isinstance(node, ast.ClassDef) and node.name in classes:
                for name, annotation in _annotated(node):
                    yield name, (self._resolved(module, annotation), self._keys_of(module, annotation))

    def options(self, module: str, function: str) -> Iterator[str]:
        """Options that a function adds to a parser one by one."""
        found = (node for node in ast.walk(self._tree(module)) if isinstance(node, ast.FunctionDef))
        for node in (call for each in found if each.name == function for call in ast.walk(each)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
                yield str(getattr(node.args[0], "value", "")).removeprefix("--").replace("-", "_")

    def keys(self, module: str, name: str) -> tuple[str, ...]:
        """Names of the fields of a class, wherever ``module`` has it from."""
        node = self._definition(module, name)
        if not isinstance(node, ast.ClassDef):
            return ()
        return tuple(field for field, _ in _annotated(node) if not field.startswith("_"))

    def mapping_keys(self, module: str, name: str) -> tuple[str, ...]:
        """Keys of a dictionary that is written out in ``module``."""
        node = self._definition(module, name)
        return tuple(str(getattr(key, "value", "")) for key in node.keys) if isinstance(node, ast.Dict) else ()

    def _resolved(self, module: str, annotation: ast.expr) -> str:
        """A type with names of ``Literal`` replaced by what they stand for."""
        return " | ".join(self._member(module, member) for member in _members(annotation))

    def _member(self, module: str, member: ast.expr) -> str:
        if isinstance(member, ast.Name) and isinstance(alias := self._definition(module, member.id), ast.expr):
            text = ast.unparse(alias)
            return text if text.startswith("Literal[") else _NOT_CHECKED
        return ast.unparse(member)

    def _keys_of(self, module: str, annotation: ast.expr) -> tuple[str, ...]:
        names = [member.id for member in _members(annotation) if isinstance(member, ast.Name)]
        return next((keys for name in names if (keys := self.keys(module, name))), ())

    def _definition(self, module: str, name: str) -> ast.ClassDef | ast.expr | None:
        """The class or the value of ``name`` in ``module``, followed through imports of vLLM's own modules."""
        for node in self._tree(module).body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return node
            if isinstance(node, ast.Assign | ast.AnnAssign) and _assigns(node, name):
                return node.value
            if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
                origin = self._origin(module, node)
                return self._definition(origin, name) if origin.startswith("vllm") else None
        return None

    def _origin(self, module: str, node: ast.ImportFrom) -> str:
        """The module that is imported from; relative ones count from the package."""
        if not node.level:
            return node.module or ""
        file = self.file(module)
        package = module.split(".") if file is not None and file.name == "__init__.py" else module.split(".")[:-1]
        above = package[: len(package) - node.level + 1]
        return ".".join([*above, *(node.module or "").split(".")]).removesuffix(".")

    def _parse(self, module: str) -> ast.Module:
        file = self.file(module)
        return ast.Module([], []) if file is None else ast.parse(file.read_bytes())


def _annotated(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id, statement.annotation


def _members(annotation: ast.expr) -> list[ast.expr]:
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return [*_members(annotation.left), *_members(annotation.right)]
    return [annotation]


def _assigns(node: ast.Assign | ast.AnnAssign, name: str) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def _either(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    both = {name for name in one if name in other and one[name] != other[name]}
    return {**one, **other, **dict.fromkeys(both, _NOT_CHECKED)}


def _both(one: Mapping[str, tuple[str, ...]], other: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    names = dict.fromkeys((*one, *other))
    return {name: tuple(dict.fromkeys((*one.get(name, ()), *other.get(name, ())))) for name in names}


def recorded() -> dict[str, VllmArguments]:
    """The arguments of the releases that were recorded, by version."""
    content = json.loads(RECORDED.read_text(encoding="utf-8"))
    return {version: VllmArguments.model_validate(arguments) for version, arguments in content.items()}


if __name__ == "__main__":
    releases = dict(argument.split("=", 1) for argument in sys.argv[1:])
    read = {version: read_arguments(Path(folder)).model_dump(mode="json") for version, folder in releases.items()}
    RECORDED.write_text(json.dumps(read, indent=1) + "\n", encoding="utf-8")
