"""What the schema wants at a key: text as it is written, or the value that YAML makes of it."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.config.vllm_arguments import annotation_of

KeyPath = tuple[str | int, ...]


def annotation(path: KeyPath) -> Any:
    """The type at ``path``: ``Any`` where the schema leaves it open, ``None`` where it has no such key."""
    if _members(path) - {"None"} == {"str"}:
        return str
    here: Any = AscendServeConfig
    for part in path:
        here = _below(here, part)
    return here


def field_at(path: KeyPath) -> FieldInfo | None:
    """The field of the schema at ``path``; what lies in mappings and lists has none of its own."""
    sections = (item for item in alternatives(annotation(path[:-1])) if is_section(item))
    return next((section.model_fields.get(str(path[-1])) for section in sections), None)


def wants_text(path: KeyPath) -> bool:
    """Whether only text can stand at ``path``: then what is written counts, whatever YAML would make of it."""
    found = alternatives(annotation(path))
    return bool(found) and all(item is str or _words(item) for item in found)


def may_be_text(path: KeyPath) -> bool:
    """Whether text can stand at ``path``, among other things; where the schema leaves it open, vLLM may tell."""
    known = _members(path)
    return wants_text(path) or (annotation(path) is Any and (not known or "str" in known))


def wants_container(path: KeyPath) -> bool:
    """Whether a section, a mapping or a list has to stand at ``path``, so that null can only mean its defaults."""
    here = annotation(path)
    found = alternatives(here)
    optional = type(None) in typing.get_args(here)
    return bool(found) and not optional and all(is_section(item) or _is_collection(item) for item in found)


def may_be_list(path: KeyPath) -> bool:
    """Whether a list can stand at ``path``."""
    return any(typing.get_origin(item) in (tuple, list) for item in alternatives(annotation(path)))


def words(path: KeyPath) -> tuple[str, ...]:
    """The words that are allowed at ``path``; empty where it is not a matter of words."""
    return tuple(word for item in alternatives(annotation(path)) for word in _words(item))


def alternatives(here: Any) -> list[Any]:
    """The members of a union without ``None``, or the type itself; nothing where it is open or unknown."""
    if typing.get_origin(here) in (typing.Union, types.UnionType):
        return [item for item in typing.get_args(here) if item is not type(None)]
    return [] if here in (Any, None) else [here]


def is_section(item: Any) -> bool:
    """Whether a type is one of the schema's sections."""
    return isinstance(item, type) and issubclass(item, BaseModel)


def _members(path: KeyPath) -> set[str]:
    """The types of one of vLLM's arguments, as vLLM spells them."""
    known = annotation_of(str(path[1])) if len(path) == 2 and path[0] == "vllm" else None
    return set(known.split(" | ")) if known else set()


def _below(here: Any, part: str | int) -> Any:
    if here is Any:
        return Any
    found: Iterator[Any] = (_member(item, part) for item in alternatives(here))
    return next((item for item in found if item is not None), None)


def _member(item: Any, part: str | int) -> Any:
    if is_section(item):
        field = item.model_fields.get(str(part))
        return field.annotation if field is not None else None
    if typing.get_origin(item) is dict:
        return typing.get_args(item)[1]
    return typing.get_args(item)[0] if _is_collection(item) else None


def _is_collection(item: Any) -> bool:
    return typing.get_origin(item) in (dict, tuple, list)


def _words(item: Any) -> tuple[str, ...]:
    if typing.get_origin(item) is Literal:
        return tuple(str(word) for word in typing.get_args(item))
    return tuple(str(member.value) for member in item) if isinstance(item, type) and issubclass(item, Enum) else ()
