"""Overrides: ``key=value``, ``+key=value`` and ``~key`` as Hydra spells them, as text or as typed values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ascend_serve.config import yaml_text
from ascend_serve.config.layers import INTERPOLATION, first_line, plain
from ascend_serve.config.targets import KeyPath, may_be_text, wants_container, wants_text
from ascend_serve.errors import ConfigError

Overrides = str | Sequence[str] | Mapping[str, Any]
"""One override, several in order, or dotted keys with their values."""

_REMEDY = "Write a dotted key, '=' and a YAML value, for example graph.capture_sizes=[1,2,4]; ~key removes a key."


@dataclass(frozen=True, slots=True)
class Override:
    """One override.

    Attributes:
        text: As the user wrote it.
        parts: The parts of the key; which of them number elements of lists, only the configuration tells.
        value: What the key is set to.
        removes: Whether the key is removed instead.
    """

    text: str
    parts: tuple[str, ...]
    value: Any = None
    removes: bool = False

    @property
    def origin(self) -> str:
        """What is told about where a key comes from."""
        return f"override {self.text!r}"


def parse_overrides(overrides: Overrides) -> list[Override]:
    """Read overrides.

    Args:
        overrides: ``key=value`` with a dotted key and a YAML value, ``+key=value``, which is the same, or ``~key``.
            In a mapping, values have their types already; text is read as YAML where the schema wants no text.

    Raises:
        ConfigError: One is malformed.
    """
    if isinstance(overrides, str):
        return [_from_text(overrides)]
    if isinstance(overrides, Mapping):
        return list(_from_mapping(overrides))
    return [_from_text(override) for override in overrides]


def as_path(parts: Sequence[str]) -> KeyPath:
    """The parts of a key as the schema has them: what is only digits numbers an element."""
    return tuple(int(part) if part.isdigit() else part for part in parts)


def _from_text(text: str) -> Override:
    if not isinstance(text, str):
        raise ConfigError(f"override {text!r}: not text", _REMEDY)
    key, equals, value = text.partition("=")
    if key.startswith("~"):
        if equals:
            raise ConfigError(f"override {text!r}: a removal has no value", f"Write {key!r}.")
        return Override(text, _parts(text, key[1:]), removes=True)
    key = key.lstrip("+")
    parts = _parts(text, key) if equals else ()
    if not parts:
        raise ConfigError(f"override {text!r}: not of the form key=value", _REMEDY)
    return _setting(text, parts, _value(text, value, as_path(parts)))


def _from_mapping(overrides: Mapping[str, Any]) -> Iterator[Override]:
    for key, value in overrides.items():
        if str(key).startswith("~"):
            yield _from_text(str(key))
            continue
        text = f"{key}={value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)}"
        parts = _parts(text, str(key).lstrip("+"))
        path = as_path(parts)
        try:
            typed = _typed(text, value, path) if isinstance(value, str) else plain(value, path)
            yield _setting(text, parts, typed)
        except TypeError as error:
            raise ConfigError(f"override {text!r}: {error}", "Give text, numbers, lists and dicts.") from error


def _typed(text: str, value: str, path: KeyPath) -> Any:
    """What is meant by text in a mapping: ``serve run`` hands all of a command line as text, a file means it."""
    if wants_text(path):
        return value
    if not may_be_text(path):
        return _value(text, value, path)
    try:
        parsed = yaml_text.parse(value, path)
    except (yaml.YAMLError, OmegaConfBaseException):
        return value
    return value if isinstance(parsed, dict | list) and value.lstrip()[0] not in "[{" else parsed


def _setting(text: str, parts: tuple[str, ...], value: Any) -> Override:
    """Null for a section is its defaults."""
    try:
        OmegaConf.create({"value": value})
    except OmegaConfBaseException as error:
        raise _malformed(text, error) from error
    return Override(text, parts, value, removes=value is None and wants_container(as_path(parts)))


def _parts(text: str, key: str) -> tuple[str, ...]:
    """Split a key as OmegaConf does, with its brackets and escapes."""
    parts = []
    try:
        node: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"{key}=0"]))
    except (yaml.YAMLError, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(f"override {text!r}: not of the form key=value", _REMEDY) from error
    while isinstance(node, dict):
        part, node = next(iter(node.items()))
        parts.append(str(part))
    if not all(parts) or key.count("[") != key.count("]"):
        raise ConfigError(f"override {text!r}: not of the form key=value", _REMEDY)
    return tuple(parts)


def _value(text: str, value: str, path: KeyPath) -> Any:
    try:
        return yaml_text.override_value(value, path)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or first_line(error)
        raise ConfigError(
            f"override {text!r}: the value is not valid YAML: {problem}",
            "Quote the whole override in the shell, for example 'graph.capture_sizes=[1, 2]'.",
        ) from error
    except OmegaConfBaseException as error:
        raise _malformed(text, error) from error


def _malformed(text: str, error: OmegaConfBaseException) -> ConfigError:
    return ConfigError(f"override {text!r}: malformed interpolation: {first_line(error)}", INTERPOLATION)
