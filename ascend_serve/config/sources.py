"""Where the keys of a configuration come from: a YAML file and ``key=value`` overrides, merged with OmegaConf."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ascend_serve.errors import ConfigError

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything the user wrote, merged and interpolated, not yet validated.

    Attributes:
        path: The file.
        values: Plain dictionaries, lists and scalars; overrides win over the file.
        origins: For each key of the file or of an override, who said it, for example ``configs/demo.yaml:7``.
    """

    path: Path
    values: dict[str, Any]
    origins: dict[KeyPath, str]

    def origin(self, key: KeyPath) -> str:
        """Who said ``key``, or the closest key above it, or one below it; the file where nobody did."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.origins:
                return self.origins[key[:length]]
        below = (origin for path, origin in self.origins.items() if path[: len(key)] == key)
        return next(below, str(self.path))


def read(path: str | Path, overrides: Sequence[str] = ()) -> Sources:
    """Read ``path``, apply ``overrides`` in order and resolve interpolations.

    Args:
        path: A YAML file.
        overrides: ``key=value`` with a dotted key and a YAML value, for example ``graph.capture_sizes=[1,2,4]``.

    Raises:
        ConfigError: The file is missing or no YAML mapping, an override is malformed, an interpolation has no target.
    """
    file = Path(path)
    text = _read_text(file)
    config, origins = _parse_file(file, text)
    for override in overrides:
        key = _apply_override(config, override)
        origins = {old: origin for old, origin in origins.items() if old[: len(key)] != key}
        origins[key] = f"override {override!r}"
    return Sources(file, _resolve(config, file), origins)


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        problem = f"{file}: no such file"
    except (OSError, UnicodeDecodeError) as error:
        problem = f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}"
    raise ConfigError(problem, "Give the path of a YAML file, for example configs/demo.yaml.")


def _parse_file(file: Path, text: str) -> tuple[DictConfig, dict[KeyPath, str]]:
    try:
        config = OmegaConf.create(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        raise ConfigError(f"{place}: not valid YAML: {error.problem}", "Correct the file at this line.") from error
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{file}: {_first_line(error)}", "Correct the file.") from error
    if not isinstance(config, DictConfig) or not isinstance(root, yaml.MappingNode | None):
        raise ConfigError(f"{file}: not a mapping of keys to values", "Start with 'model:' and 'path:' below it.")
    return config, {key: f"{file}:{line}" for key, line in _lines(root, ())}


def _lines(node: yaml.Node | None, above: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*above, str(key.value))
            yield here, key.start_mark.line + 1
            yield from _lines(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*above, index), value.start_mark.line + 1
            yield from _lines(value, (*above, index))


def _apply_override(config: DictConfig, override: str) -> KeyPath:
    key, equals, _ = override.partition("=")
    parts = key.replace("[", ".").replace("]", "").split(".")
    if not equals or not all(parts):
        raise ConfigError(
            f"override {override!r}: not of the form key=value",
            "Write a dotted key, '=' and a YAML value, for example graph.capture_sizes=[1,2,4].",
        )
    try:
        parsed = OmegaConf.from_dotlist([f"value{override[len(key) :]}"])
        value = OmegaConf.to_container(parsed, resolve=False)["value"]  # type: ignore[index, call-overload]
        OmegaConf.update(config, key, value, merge=True, force_add=True)
    except yaml.MarkedYAMLError as error:
        raise ConfigError(
            f"override {override!r}: the value is not valid YAML: {error.problem}",
            "Quote the whole override in the shell, for example 'graph.capture_sizes=[1, 2]'.",
        ) from error
    except (OmegaConfBaseException, TypeError, ValueError, IndexError) as error:
        raise ConfigError(
            f"override {override!r}: {_first_line(error)}", "Override a key that the file has or the schema knows."
        ) from error
    return tuple(int(part) if part.isdigit() else part for part in parts)


def _resolve(config: DictConfig, file: Path) -> dict[str, Any]:
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "?"
        raise ConfigError(
            f"{file}: {key}: {_first_line(error)}",
            "Give the key that the interpolation names, or write the value itself.",
        ) from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
