"""What the schema refuses: which value, where it was set, what is allowed, and what to write instead."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import ValidationError

from ascend_serve.config.key_names import dotted, nearest
from ascend_serve.config.sources import Sources
from ascend_serve.config.targets import KeyPath, alternatives, annotation, field_at, is_section, may_be_list, words
from ascend_serve.errors import Problem

_UNION_ALTERNATIVE = re.compile(r"int|float|bool|str|(tuple|list|dict)\[.*\]")
_REFERENCE = "`ascend-serve config --reference` lists all keys; arguments of `vllm serve` go below vllm:"


def refusals(error: ValidationError, written: Sources) -> list[Problem]:
    """Problem and remedy for each key that Pydantic refuses."""
    found: dict[KeyPath, list[Any]] = {}
    for detail in error.errors(include_url=False):
        found.setdefault(_schema_path(detail["loc"]), []).append(detail)
    return [_refusal(key, details, written) for key, details in found.items()]


def _refusal(key: KeyPath, details: list[Any], written: Sources) -> Problem:
    name, origin, kind = dotted(key), written.origin(key), details[0]["type"]
    if kind == "extra_forbidden":
        return f"{name}: unknown key ({origin})", _closest_key(key)
    if kind == "missing":
        return f"{name}: required, but not set ({origin})", f"Set {' and '.join(_required(key))}."
    allowed = " or ".join(dict.fromkeys(_sentence(detail["msg"]) for detail in details))
    value = _value(written.values, key, details[0]["input"])
    shown = json.dumps(value, default=str)
    return f"{name}: {shown} is not allowed ({origin}); allowed: {allowed}", _instead(key, value)


def _schema_path(loc: KeyPath) -> KeyPath:
    """Cut off what Pydantic adds to a key for the alternatives of a union, such as ``int`` or ``tuple[int, ...]``."""
    for index, part in enumerate(loc):
        if isinstance(part, str) and _UNION_ALTERNATIVE.fullmatch(part):
            return loc[:index]
    return loc


def _required(key: KeyPath) -> Iterator[str]:
    """The keys to set where ``key`` is missing: those that a section needs, or itself."""
    section = next((item for item in alternatives(annotation(key)) if is_section(item)), None)
    needed = [] if section is None else [name for name, field in section.model_fields.items() if field.is_required()]
    if not needed and (allowed := words(key)):
        yield f"{dotted(key)} to one of {', '.join(allowed)}"
    else:
        yield from [dotted((*key, name)) for name in needed] or [dotted(key)]


def _instead(key: KeyPath, value: Any) -> str:
    """What to write instead of ``value``."""
    name = dotted(key)
    if allowed := words(key):
        match = _closest_word(str(value), allowed)
        return f"Did you mean {name}={match}?" if match else f"For example {name}={_default(key) or allowed[0]}."
    if isinstance(value, str) and _is_value(value):
        return f"Write it without quotes: {name}={value}."
    if may_be_list(key) and len(alternatives(annotation(key))) == 1 and not isinstance(value, str | dict | list):
        return f"Write a list: '{name}=[{json.dumps(value)}]'."
    if str in alternatives(annotation(key)) and isinstance(value, int | float):
        return f"Write text, in quotes: {name}: {json.dumps(json.dumps(value))}."
    default = _default(key)
    return f"Set {name} to an allowed value" + ("." if default is None else f", for example {name}={default}.")


def _default(key: KeyPath) -> Any:
    """A default that can be shown as an example."""
    field = field_at(key)
    default = None if field is None or field.is_required() else field.get_default(call_default_factory=True)
    return default if isinstance(default, str | int | float) else None


def _is_value(text: str) -> bool:
    """Whether ``text`` is a number or a boolean that somebody put in quotes."""
    try:
        return isinstance(yaml.safe_load(text), int | float)
    except yaml.YAMLError:
        return False


def _closest_word(word: str, allowed: tuple[str, ...]) -> str | None:
    by_case = {item.casefold(): item for item in allowed}
    match = difflib.get_close_matches(word.casefold(), by_case, n=1)
    return by_case[match[0]] if match else None


def _closest_key(key: KeyPath) -> str:
    last = str(key[-1])
    if "." in last and annotation(tuple(last.split("."))) is not None:
        *sections, name = last.split(".")
        nested = "".join(f"{section}: {{" for section in sections)
        return f"In a file or a mapping it is nested: {nested}{name}: ...{'}' * len(sections)}; dots are for overrides."
    match = nearest(re.sub(r"\[\d+\]", "[]", dotted(key)))
    if match is None:
        return _REFERENCE
    for index in (part for part in key if isinstance(part, int)):
        match = match.replace("[]", f"[{index}]", 1)
    return f"Did you mean {match}?"


def _value(values: Any, key: KeyPath, otherwise: Any) -> Any:
    for part in key:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return otherwise
    return values


def _sentence(message: str) -> str:
    sentence = message.removeprefix("Value error, ").removeprefix("Input should be ")
    return (
        sentence.replace("an object", "a mapping")
        .replace("a valid array", "a list")
        .replace("a valid integer", "an integer")
    )
