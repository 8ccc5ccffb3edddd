"""The arguments of ``vllm serve``, read from vLLM's sources by syntax tree: importing vLLM takes many seconds.

Written for vLLM 0.23.0, 0.32.0 and 0.33.0, whose server options are in different modules.

    python -m ascend_serve.config.vllm_source RELEASE=FOLDER ...

records them from unpacked releases in ``vllm_arguments.json``, so that they are known where no vLLM is installed.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
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
BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
"""Words of ``pydantic.Field``, and how they are said."""
Bounds = dict[str, float]
_REGISTRIES = {
    "tool_call_parser": ("vllm.tool_parsers", "_TOOL_PARSERS_TO_REGISTER"),
    "reasoning_parser": ("vllm.reasoning", "_REASONING_PARSERS_TO_REGISTER"),
    "config_format": ("vllm.transformers_utils.config", "ConfigFormat"),
    "quantization": ("vllm.model_executor.layers.quantization", "QuantizationMethods"),
}
"""Where the names stand that some arguments may have: the keys of a dictionary, or the words of a ``Literal``."""
_HANDED_ON = {
    "speculative_config": ("vllm.config", "SpeculativeConfig"),
    "watermark_config": ("vllm.config", "WatermarkConfig"),
    "diffusion_config": ("vllm.config", "DiffusionConfig"),
    "quantization_config": ("vllm.config.quantization", "QuantizationConfigArgs"),
}
"""Arguments whose type is any mapping, and the class that vLLM makes of it."""


class VllmArguments(BaseModel):
    """The arguments of one vLLM, by name, with their types as Python spells them.

    Attributes:
        engine: Fields of ``AsyncEngineArgs``.
        server: Options of the API server.
        sections: Keys of the arguments that are mappings for a configuration class, with their types; those of the
            mappings in them by their path, such as ``compilation_config.pass_config``.
        bounds: What numbers may be, by argument or ``argument.key``, as ``pydantic.Field`` has it: ``ge`` and the like.
        names: Names that arguments may have whose type only says text, or is an enumeration.
        needed: Keys that a mapping has to have, by argument.
    """

    model_config = ConfigDict(frozen=True)

    engine: dict[str, str] = {}
    server: dict[str, str] = {}
    sections: dict[str, dict[str, str]] = {}
    bounds: dict[str, Bounds] = {}
    names: dict[str, tuple[str, ...]] = {}
    needed: dict[str, tuple[str, ...]] = {}

    def merged(self, other: VllmArguments) -> VllmArguments:
        """What either of two releases has; where they differ in a type, nothing is known of it."""
        return VllmArguments(
            engine=_either(self.engine, other.engine),
            server=_either(self.server, other.server),
            sections=_each(self.sections, other.sections),
            bounds={name: self.bounds[name] for name in self.bounds if self.bounds[name] == other.bounds.get(name)},
            names=_both(self.names, other.names),
            needed={name: keys for name, keys in self.needed.items() if keys == other.needed.get(name)},
        )


def read_arguments(site: Path) -> VllmArguments:
    """Read the arguments of the vLLM below ``site``, a folder of packages."""
    source = _Source(site)
    server = next((name for name in _SERVER_MODULES if source.file(name) is not None), _SERVER_MODULES[0])
    engine = {field.name: field for field in source.fields("vllm.engine.arg_utils", _ENGINE_CLASSES)}
    by_hand = dict.fromkeys(source.options(server, "make_arg_parser"), _NOT_CHECKED)
    named = {field.name: field.annotation for field in source.fields(server, _SERVER_CLASSES)}
    handed_on = [_Field(name, "", keys=source.keys(*place)) for name, place in _HANDED_ON.items()]
    below = dict(_sections([*engine.values(), *(field for field in handed_on if field.name in engine)]))
    listed = {name: source.names(*place) for name, place in _REGISTRIES.items()}
    enumerated = {name: source.members_of("vllm.engine.arg_utils", field.annotation) for name, field in engine.items()}
    return VllmArguments(
        engine={name: field.annotation for name, field in engine.items()},
        server={**by_hand, **named},
        sections={name: {key.name: key.annotation for key in keys} for name, keys in below.items() if keys},
        bounds={
            **{name: field.bounds for name, field in engine.items() if field.bounds},
            **{f"{name}.{key.name}": key.bounds for name, keys in below.items() for key in keys if key.bounds},
        },
        names={name: names for name, names in {**enumerated, **listed}.items() if names},
        needed={
            name: keys
            for name, fields in below.items()
            if (keys := tuple(field.name for field in fields if field.is_needed)) and name in engine
        },
    )


def _sections(fields: Iterable[_Field], above: str = "") -> Iterator[tuple[str, tuple[_Field, ...]]]:
    """The fields that are configuration classes, with dots, and the fields of each."""
    for field in fields:
        if field.keys:
            yield f"{above}{field.name}", field.keys
            yield from _sections(field.keys, f"{above}{field.name}.")


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a class.

    Attributes:
        name: Its name.
        annotation: Its type, with names of ``Literal`` replaced by what they stand for.
        bounds: What its number may be.
        keys: The fields of its type, where that is a configuration class.
        is_needed: Whether it has no default.
    """

    name: str
    annotation: str
    bounds: Bounds = dataclasses.field(default_factory=dict)
    keys: tuple[_Field, ...] = ()
    is_needed: bool = False


class _Source:
    """Modules below a folder of packages."""

    def __init__(self, site: Path) -> None:
        self._site = site
        self._tree = cache(self._parse)

    def file(self, module: str) -> Path | None:
        path = self._site.joinpath(*module.split("."))
        return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.exists()), None)

    def fields(self, module: str, classes: tuple[str, ...]) -> Iterator[_Field]:
        """Fields of classes, each with its type and, where that is a configuration class, the keys of it."""
        for node in self._tree(module).body:
            if isinstance(node, ast.ClassDef) and node.name in classes:
                for field in _annotated(node):
                    annotation = self._narrowed(module, field)
                    keys = self._keys_of(module, field.annotation)
                    bounds = self._bounds(module, field.value) or self._bounds_by_name(_name(field))
                    yield _Field(_name(field), annotation, bounds, keys)

    def options(self, module: str, function: str) -> Iterator[str]:
        """Options that a function adds to a parser one by one."""
        found = (node for node in ast.walk(self._tree(module)) if isinstance(node, ast.FunctionDef))
        for node in (call for each in found if each.name == function for call in ast.walk(each)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
                yield str(getattr(node.args[0], "value", "")).removeprefix("--").replace("-", "_")

    def keys(self, module: str, name: str) -> tuple[_Field, ...]:
        """The fields of a class, wherever ``module`` has it from."""
        home, node = self._home(module, name)
        if not isinstance(node, ast.ClassDef):
            return ()
        return tuple(
            _Field(
                _name(field),
                self._resolved(home, field.annotation),
                _said_bounds(field.value),
                self._keys_of(home, field.annotation),
                _is_needed(field),
            )
            for field in _annotated(node)
            if not _name(field).startswith("_")
        )

    def names(self, module: str, name: str) -> tuple[str, ...]:
        """Keys of a dictionary, or words of a ``Literal``, that is written out in ``module``."""
        home, node = self._home(module, name)
        if isinstance(node, ast.Dict):
            return tuple(str(getattr(key, "value", "")) for key in node.keys)
        words = self._literal(home, node) if isinstance(node, ast.expr) else ""
        return tuple(ast.literal_eval(f"({words.removeprefix('Literal[').removesuffix(']')},)")) if words else ()

    def members_of(self, module: str, annotation: str) -> tuple[str, ...]:
        """Names of an enumeration, which vLLM takes in capitals or not; none where the type is none, or also text."""
        first, *others = _members(ast.parse(annotation, mode="eval").body)
        if not isinstance(first, ast.Name) or any(ast.unparse(other) != "None" for other in others):
            return ()
        node = self._definition(module, first.id)
        if not isinstance(node, ast.ClassDef) or not any(getattr(base, "id", "") == "Enum" for base in node.bases):
            return ()
        return tuple(str(getattr(each.targets[0], "id", "")) for each in _assigned(node))

    def _narrowed(self, module: str, field: ast.AnnAssign) -> str:
        """The type of an argument; where that is text, and words to the configuration class that it is for, those."""
        annotation = self._resolved(module, field.annotation)
        owner, name = _owner(field.value)
        if annotation != "str" or not owner:
            return annotation
        home, node = self._home(module, owner)
        fields = _annotated(node) if isinstance(node, ast.ClassDef) else iter(())
        found = [self._resolved(home, each.annotation) for each in fields if _name(each) == name]
        return found[0] if found and found[0].startswith("Literal[") else annotation

    def _resolved(self, module: str, annotation: ast.expr) -> str:
        """A type with names of ``Literal`` replaced by what they stand for."""
        return " | ".join(self._member(module, member) for member in _members(annotation))

    def _member(self, module: str, member: ast.expr) -> str:
        if isinstance(member, ast.Name):
            home, alias = self._home(module, member.id)
            if isinstance(alias, ast.expr):
                return self._literal(home, alias) or _NOT_CHECKED
            if isinstance(alias, ast.ClassDef) and any(getattr(base, "id", "") == "IntEnum" for base in alias.bases):
                return f"Literal[{', '.join(ast.unparse(node.value) for node in _assigned(alias))}]"
        if isinstance(member, ast.Subscript) and getattr(member.value, "id", "") in ("list", "set"):
            return f"{ast.unparse(member.value)}[{self._resolved(module, member.slice)}]"
        return self._literal(module, member) or ast.unparse(member)

    def _literal(self, module: str, node: ast.expr) -> str:
        """A ``Literal`` with the names in it replaced by what they stand for; empty where it is none."""
        if not (isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "Literal"):
            return ""
        words: list[str] = []
        for element in node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]:
            inner = self._member(module, element) if isinstance(element, ast.Name) else ast.unparse(element)
            words.append(inner.removeprefix("Literal[").removesuffix("]"))
        return f"Literal[{', '.join(words)}]"

    def _bounds(self, module: str, default: ast.expr | None) -> Bounds:
        """The bounds of a field whose default is that of a configuration class: ``SchedulerConfig.stream_interval``."""
        owner, name = _owner(default)
        if not owner:
            return {}
        node = self._definition(module, owner)
        found = _annotated(node) if isinstance(node, ast.ClassDef) else iter(())
        return next((_said_bounds(field.value) for field in found if _name(field) == name), {})

    def _bounds_by_name(self, name: str) -> Bounds:
        """The bounds of the one field of that name that has any, among vLLM's configuration classes."""
        found = [said for field in self._configured() if _name(field) == name and (said := _said_bounds(field.value))]
        return found[0] if len(found) == 1 else {}

    def _configured(self) -> Iterator[ast.AnnAssign]:
        """All fields of the configuration classes of ``vllm.config``."""
        for node in self._tree("vllm.config").body:
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    found = self._definition("vllm.config", alias.name)
                    yield from _annotated(found) if isinstance(found, ast.ClassDef) else ()

    def _keys_of(self, module: str, annotation: ast.expr) -> tuple[_Field, ...]:
        names = [member.id for member in _members(annotation) if isinstance(member, ast.Name)]
        return next((keys for name in names if (keys := self.keys(module, name))), ())

    def _definition(self, module: str, name: str) -> ast.ClassDef | ast.expr | None:
        """The class or the value of ``name`` in ``module``, followed through imports of vLLM's own modules."""
        return self._home(module, name)[1]

    def _home(self, module: str, name: str) -> tuple[str, ast.ClassDef | ast.expr | None]:
        """The module that defines ``name``, and what it is there."""
        for node in self._tree(module).body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return module, node
            if isinstance(node, ast.Assign | ast.AnnAssign) and _assigns(node, name):
                return module, node.value
            if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
                origin = self._origin(module, node)
                return self._home(origin, name) if origin.startswith("vllm") else (module, None)
        return module, None

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


def _annotated(node: ast.ClassDef) -> Iterator[ast.AnnAssign]:
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement


def _assigned(node: ast.ClassDef) -> Iterator[ast.Assign]:
    return (statement for statement in node.body if isinstance(statement, ast.Assign))


def _owner(default: ast.expr | None) -> tuple[str, str]:
    """The configuration class and the field that an argument has its default from; empty where it has its own."""
    if isinstance(default, ast.Call) and getattr(default.func, "id", "") == "get_field":
        return str(getattr(default.args[0], "id", "")), str(getattr(default.args[1], "value", ""))
    if isinstance(default, ast.Attribute):
        return str(getattr(default.value, "id", "")), default.attr
    return "", ""


def _is_needed(field: ast.AnnAssign) -> bool:
    """Whether a field has no default, nor one in a call of ``pydantic.Field``."""
    value = field.value
    if not (isinstance(value, ast.Call) and getattr(value.func, "id", "") == "Field"):
        return value is None
    return not value.args and not {"default", "default_factory"} & {word.arg for word in value.keywords}


def _name(field: ast.AnnAssign) -> str:
    return str(getattr(field.target, "id", ""))


def _said_bounds(default: ast.expr | None) -> Bounds:
    """The bounds of a call of ``pydantic.Field`` that are numbers."""
    if not (isinstance(default, ast.Call) and getattr(default.func, "id", "") == "Field"):
        return {}
    said = {word.arg: word.value for word in default.keywords if word.arg in BOUNDS}
    return {str(name): float(ast.literal_eval(value)) for name, value in said.items() if _is_number(value)}


def _is_number(node: ast.expr) -> bool:
    try:
        return isinstance(ast.literal_eval(node), int | float)
    except ValueError:
        return False


def _members(annotation: ast.expr) -> list[ast.expr]:
    """The members of a union, which may be written as text."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return _members(ast.parse(annotation.value, mode="eval").body)
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return [*_members(annotation.left), *_members(annotation.right)]
    return [annotation]


def _assigns(node: ast.Assign | ast.AnnAssign, name: str) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def _either(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    both = {name for name in one if name in other and one[name] != other[name]}
    return {**one, **other, **dict.fromkeys(both, _NOT_CHECKED)}


def _each(one: Mapping[str, Mapping[str, str]], other: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    return {name: _either(one.get(name, {}), other.get(name, {})) for name in dict.fromkeys((*one, *other))}


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
