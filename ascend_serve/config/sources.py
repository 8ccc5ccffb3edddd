"""Where the keys of a configuration come from: files or mappings merged in order, then overrides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ascend_serve.config.draft import Draft
from ascend_serve.config.interpolation import Resolution
from ascend_serve.config.layers import Source, layer
from ascend_serve.config.overrides import Overrides, parse_overrides
from ascend_serve.config.targets import KeyPath
from ascend_serve.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything the user wrote, merged and interpolated, not yet validated.

    Attributes:
        name: Names the sources, for example the file.
        values: Plain dictionaries, lists and scalars; overrides win over the sources.
        origins: For each key that is set, who said it, for example ``configs/demo.yaml:7``.
        warnings: One sentence for each override that has no effect.
    """

    name: str
    values: dict[str, Any]
    origins: dict[KeyPath, str]
    warnings: tuple[str, ...] = ()

    def origin(self, key: KeyPath) -> str:
        """Who said ``key``, or the closest key above it, or one below it; the sources where nobody did."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.origins:
                return self.origins[key[:length]]
        below = (origin for path, origin in self.origins.items() if path[: len(key)] == key)
        return next(below, self.name)


def read(source: Source | Sequence[Source], overrides: Overrides = ()) -> Sources:
    """Merge the sources in order, apply the overrides in order and resolve interpolations.

    Args:
        source: A YAML file, a mapping or a typed configuration, or several of them.
        overrides: See `parse_overrides`.

    Raises:
        ConfigError: A source is missing or no mapping, an override is malformed, an interpolation has no target.
    """
    draft = Draft()
    layers = [layer(item) for item in _several(source)]
    name = ", ".join(item.name for item in layers)
    for item in layers:
        draft.lay(item)
    for override in parse_overrides(overrides):
        draft.apply(override)
    resolution = Resolution(draft)
    if resolution.problems:
        raise ConfigError.of(name, resolution.problems)
    return Sources(name, resolution.values, resolution.origins, tuple(draft.warnings))


def _several(source: Source | Sequence[Source]) -> Sequence[Source]:
    return source if isinstance(source, Sequence) and not isinstance(source, str) else [source]
