"""One layer of a configuration: what a file, a mapping or a typed configuration says, and where it says so."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel

from ascend_serve.config import yaml_text
from ascend_serve.config.key_names import dotted
from ascend_serve.config.model_cache import cached_model, means_model_id
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.config.shipped import find, is_model
from ascend_serve.config.targets import KeyPath, wants_container
from ascend_serve.errors import ConfigError

Source = str | os.PathLike[str] | IO[str] | Mapping[str, Any] | AscendServeConfig
"""A YAML file or its path, a nested mapping such as a ``dict`` or an OmegaConf ``DictConfig``, or a typed one; or what
stands for a file: the name of a shipped configuration, or the folder of a model."""

INTERPOLATION = r"Write ${key}, ${oc.env:NAME} or ${oc.env:NAME,DEFAULT}, or the value itself; \${ is plain text."
"""What to do about an interpolation that cannot be."""

_BEFORE_INTERPOLATION = re.compile(r"(\\*)\$\{")


@dataclass(frozen=True, slots=True)
class Layer:
    """What one source says.

    Attributes:
        name: Names the source, for example the file.
        values: Plain dictionaries, lists and scalars; interpolations are still text.
        origins: For each key, where it is said, for example ``configs/demo.yaml:7``.
    """

    name: str
    values: dict[str, Any]
    origins: dict[KeyPath, str]


def layer(source: Source) -> Layer:
    """Read one source.

    Raises:
        ConfigError: It is missing, no YAML, or no mapping of keys to values.
    """
    if isinstance(source, str | os.PathLike):
        return _of_path(find(source))
    if isinstance(source, Mapping | BaseModel):
        return _of_mapping(f"<{type(source).__name__}>", source)
    if hasattr(source, "read"):
        name = str(getattr(source, "name", f"<{type(source).__name__}>"))
        return _of_text(name, _read(name, source.read))
    raise ConfigError(
        f"{source!r} ({type(source).__name__}) is not a configuration",
        "Give the path of a YAML file, a dict, an OmegaConf DictConfig or an AscendServeConfig.",
    )


def paths(value: Any, at: KeyPath) -> Iterator[KeyPath]:
    """``at`` and the paths of all that lies below it in ``value``."""
    yield at
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, item in below:
        yield from paths(item, (*at, part))


def plain(value: Any, at: KeyPath = ()) -> Any:
    """Plain dictionaries, lists and scalars of ``value``, with text as keys.

    Raises:
        TypeError: There is something in it that no YAML file could say; with its key.
    """
    if isinstance(value, DictConfig | ListConfig):
        # What is part of a larger tree may refer to that tree; a whole one is interpolated after overrides.
        return plain(OmegaConf.to_container(value, resolve=OmegaConf.select(value, "..") is not None), at)
    if isinstance(value, BaseModel):
        return _literal(value.model_dump(mode="json", exclude_unset=True))
    if isinstance(value, Mapping):
        return {str(key): plain(item, (*at, str(key))) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, (*at, index)) for index, item in enumerate(value)]
    return _scalar(value, at)


def _scalar(value: Any, at: KeyPath) -> str | int | float | None:
    if isinstance(value, Enum):
        return _scalar(value.value, at)
    if isinstance(value, os.PathLike):
        return str(os.fspath(value))
    if not isinstance(value, str | int | float | None):
        raise TypeError(f"{dotted(at)}: {value!r} ({type(value).__name__}) cannot stand in a configuration")
    return value


def first_line(error: Exception) -> str:
    """The message of an error without what OmegaConf adds for its developers."""
    return str(error).partition("\n")[0]


def _of_path(path: Path) -> Layer:
    if is_model(path) or means_model_id(str(path)) or cached_model(str(path)) is not None:
        return _of_mapping(str(path), _literal({"model": {"path": str(path)}}))
    return _of_text(str(path), _read(path, path.read_bytes))


def _of_text(name: str, text: str) -> Layer:
    try:
        values = yaml_text.parse(text)
        found = yaml_text.lines(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise ConfigError(f"{place}: not valid YAML: {error.problem}", "Correct the file at this line.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {first_line(error)}", "Correct the file.") from error
    except OmegaConfBaseException as error:
        place = f"{name}:{_line_of(text, error)}"
        problem = f"{place}: {_key(error)}malformed interpolation: {first_line(error)}"
        raise ConfigError(problem, INTERPOLATION) from error
    if not isinstance(values, dict | None):
        raise ConfigError(f"{name}: not a mapping of keys to values", "Start with 'model:' and 'path:' below it.")
    values = _without_empty_sections(values or {})
    return Layer(name, values, {key: f"{name}:{_line(found, key)}" for key in paths(values, ()) if key})


def _line(found: Mapping[KeyPath, int], key: KeyPath) -> int:
    """The line of a key, or of the closest one above it: YAML's merge keys bring some from elsewhere."""
    return next((found[key[:length]] for length in range(len(key), 0, -1) if key[:length] in found), 1)


def _of_mapping(name: str, source: Mapping[str, Any] | BaseModel) -> Layer:
    try:
        values = _without_empty_sections(plain(source))
        OmegaConf.create(values)
    except TypeError as error:
        raise ConfigError(f"{name}: {error}", "Give text, numbers, lists and dicts.") from error
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"{name}: {_key(error)}malformed interpolation: {first_line(error)}", INTERPOLATION
        ) from error
    return Layer(name, values, {key: name for key in paths(values, ()) if key})


def _line_of(text: str, error: Exception) -> int:
    """The line of the key that OmegaConf blames."""
    named = {dotted(path): line for path, line in yaml_text.lines(text).items()}
    return named.get(_key(error).removesuffix(": "), 1)


def _key(error: Exception) -> str:
    """The key that OmegaConf blames, if any, with a colon."""
    key = str(getattr(error, "full_key", None) or "").removeprefix("value.")
    return f"{key}: " if key else ""


def _without_empty_sections(values: dict[str, Any], at: KeyPath = ()) -> dict[str, Any]:
    """Leave out sections that have nothing below them: all of their keys have their defaults."""
    return {
        key: _without_empty_sections(value, (*at, key)) if isinstance(value, dict) else value
        for key, value in values.items()
        if value is not None or not wants_container((*at, key))
    }


def _literal(value: Any) -> Any:
    """Escape what OmegaConf would take for an interpolation: a typed configuration has none."""
    if isinstance(value, dict):
        return {key: _literal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_literal(item) for item in value]
    return _BEFORE_INTERPOLATION.sub(r"\1\1\\${", value) if isinstance(value, str) else value


def _read(file: Any, read: Callable[[], str | bytes]) -> str:
    try:
        text = read()
        return text if isinstance(text, str) else text.decode()
    except FileNotFoundError:
        problem = f"{file}: no such file"
    except (OSError, UnicodeDecodeError) as error:
        problem = f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}"
    raise ConfigError(problem, "Give a YAML file that can be read, in UTF-8.")
