"""The draft of a configuration: sources and overrides laid over each other, and who said what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from omegaconf import OmegaConf

from ascend_serve.config.key_names import dotted, nearest
from ascend_serve.config.layers import Layer, paths
from ascend_serve.config.overrides import Override
from ascend_serve.config.targets import (
    KeyPath,
    alternatives,
    annotation,
    is_section,
    may_be_list,
    words,
)
from ascend_serve.errors import ConfigError


class Draft:
    """What has been said so far.

    Attributes:
        values: Plain dictionaries, lists and scalars; interpolations are still text.
        origins: For each key, who said it.
        warnings: One sentence for each override that has no effect.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[KeyPath, str] = {}
        self.warnings: list[str] = []

    def lay(self, layer: Layer) -> None:
        """Merge a source over what is there: mappings key by key, everything else is replaced."""
        self._become(_merged(self.values, layer.values), layer.origins)

    def apply(self, override: Override) -> None:
        """Set or remove one key.

        Raises:
            ConfigError: It names an element that is not there, or removes a key that cannot be.
        """
        path = self._path(override)
        if override.removes:
            self._remove(override, path)
        else:
            origins = dict.fromkeys(paths(override.value, path), override.origin)
            self._become(_with(self.values, path, override.value), origins)

    def _become(self, values: dict[str, Any], origins: Mapping[KeyPath, str]) -> None:
        said = {**self.origins, **origins}
        self.values = values
        self.origins = {path: said[path] for path in paths(values, ()) if path in said}

    def _path(self, override: Override) -> KeyPath:
        """The key of an override with its elements of lists as numbers."""
        here: Any = self.values
        path: KeyPath = ()
        for part in override.parts:
            in_list = isinstance(here, list) or (may_be_list(path) and not isinstance(here, dict))
            step = _index(override, path, here, part) if in_list else part
            path = (*path, step)
            here = _item(here, step)
        return path

    def _remove(self, override: Override, path: KeyPath) -> None:
        above = _pick(self.values, path[:-1])
        if not isinstance(above, list) and path[-1] not in (above or {}):
            self._note_nothing_to_remove(override, path)
            return
        del above[path[-1]]
        said = {_renumbered(key, path): origin for key, origin in self.origins.items() if key[: len(path)] != path}
        self.origins = {}
        self._become(self.values, said)

    def _note_nothing_to_remove(self, override: Override, path: KeyPath) -> None:
        if annotation(path) is None:
            near = nearest(dotted(path))
            raise ConfigError(
                f"{override.origin}: {dotted(path)}: unknown key",
                f"Did you mean ~{near}?" if near else "`ascend-serve config --reference` lists all keys.",
            )
        self.warnings.append(f"{override.origin} has no effect: nothing sets {dotted(path)}")


def _merged(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return OmegaConf.to_container(OmegaConf.merge(below, above), resolve=False)


def _with(values: Any, path: KeyPath, value: Any) -> Any:
    """``values`` with ``value`` merged in at ``path``."""
    if not path:
        return _merged(values, value)
    step, rest = path[0], path[1:]
    if isinstance(values, list):
        return [_with(item, rest, value) if index == step else item for index, item in enumerate(values)]
    below = values if isinstance(values, dict) else {}
    return {**below, step: _with(below.get(step), rest, value)}


def _item(values: Any, step: str | int) -> Any:
    try:
        return values[step]
    except (KeyError, IndexError, TypeError):
        return None


def _pick(values: Any, path: KeyPath) -> Any:
    for step in path:
        values = _item(values, step)
    return values


def _renumbered(key: KeyPath, removed: KeyPath) -> KeyPath:
    """What ``key`` is called once the element ``removed`` is gone."""
    above, index = removed[:-1], removed[-1]
    if len(key) <= len(above) or key[: len(above)] != above:
        return key
    step = key[len(above)]
    later = isinstance(step, int) and isinstance(index, int) and step > index
    return (*above, step - 1, *key[len(removed) :]) if later and isinstance(step, int) else key


def _index(override: Override, path: KeyPath, elements: Any, part: str) -> int:
    """The number of an element that is there; from the end where it is negative."""
    known = elements if isinstance(elements, list) else []
    try:
        return range(len(known))[int(part)]
    except (ValueError, IndexError):
        raise _no_element(override, path, elements, part) from None


def _no_element(override: Override, path: KeyPath, elements: Any, part: str) -> ConfigError:
    name = dotted(path)
    if elements is None:
        there = "it is not set"
    elif isinstance(elements, list):
        there = f"it has {len(elements)}, counted from 0" if elements else "it is empty"
    else:
        there = f"it is {elements!r}"
    whole = [*(elements if isinstance(elements, list) else ()), _element(override, path)]
    remedy = f"~{name} removes all of it." if override.removes else f"Write the whole list: '{name}={_flow(whole)}'."
    return ConfigError(f"{override.origin}: {name} has no element {part}: {there}", remedy)


def _element(override: Override, path: KeyPath) -> Any:
    """A new element as the override would have it, with the other keys that it needs."""
    rest = override.parts[len(path) + 1 :]
    section = next((item for item in alternatives(annotation((*path, 0))) if is_section(item)), None)
    if section is None or len(rest) != 1:
        return override.value
    needed = {name: _example((*path, 0, name)) for name, field in section.model_fields.items() if field.is_required()}
    return {**needed, rest[0]: override.value}


def _example(path: KeyPath) -> Any:
    return next(iter(words(path)), 0)


def _flow(value: Any) -> str:
    return str(yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False)).strip()
