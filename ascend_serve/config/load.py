"""Loading: what the user wrote, validated against the schema, or every problem in it at once."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ascend_serve.config import sources
from ascend_serve.config.keys import dotted, nearest
from ascend_serve.config.layers import Source
from ascend_serve.config.overrides import Overrides
from ascend_serve.config.rules import check, ineffective_options
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.config.sources import Sources
from ascend_serve.config.targets import KeyPath
from ascend_serve.errors import ConfigError

logger = logging.getLogger(__name__)

_UNION_ALTERNATIVE = re.compile(r"int|float|bool|str|(tuple|list|dict)\[.*\]")


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A valid configuration with what is worth knowing about it.

    Attributes:
        config: The configuration.
        sources: What the user wrote, key by key.
        warnings: One sentence for each option that has no effect.
    """

    config: AscendServeConfig
    sources: Sources
    warnings: tuple[str, ...]


def load(source: Source | Sequence[Source], overrides: Overrides = ()) -> AscendServeConfig:
    """Load a configuration; options that have no effect are logged as warnings.

    Args:
        source: The path of a YAML file, an open one, a nested mapping (a ``dict``, OmegaConf's ``DictConfig``), a typed
            configuration, or a list of them, which are merged in order.
        overrides: ``key=value`` with dotted keys, one or several, applied in order, for example ``graph.mode=FULL``;
            or a mapping of dotted keys to values, for example ``{"graph.capture_sizes": [1, 2, 4]}``.

    Raises:
        ConfigError: With every problem of the configuration, and what is allowed instead.
    """
    loaded = load_with_sources(source, overrides)
    for warning in loaded.warnings:
        logger.warning(warning)
    return loaded.config


def load_with_sources(source: Source | Sequence[Source], overrides: Overrides = ()) -> LoadedConfig:
    """As `load`, and tells where each key came from; logs nothing."""
    written = sources.read(source, overrides)
    config = _with_absolute_model(_validate(written))
    check(config, written.name)
    return LoadedConfig(config, written, (*written.warnings, *ineffective_options(config)))


def _validate(written: Sources) -> AscendServeConfig:
    """Validate through JSON: strict about types, yet lists are tuples and strings are enum members there."""
    try:
        return AscendServeConfig.model_validate_json(json.dumps(written.values, default=str), strict=True)
    except ValidationError as error:
        found: dict[KeyPath, list[Any]] = {}
        for detail in error.errors(include_url=False):
            found.setdefault(_schema_path(detail["loc"]), []).append(detail)
        problems = [_explain(key, details, written) for key, details in found.items()]
        raise ConfigError.of(written.name, problems) from None


def _with_absolute_model(config: AscendServeConfig) -> AscendServeConfig:
    """Make a relative folder absolute here: the processes that load it may run in another directory."""
    folder = Path(config.model.path)
    if folder.is_absolute() or not folder.is_dir():
        return config
    model = config.model.model_copy(update={"path": str(folder.absolute())})
    return config.model_copy(update={"model": model})


def _schema_path(loc: KeyPath) -> KeyPath:
    """Cut off what Pydantic adds to a key for the alternatives of a union, such as ``int`` or ``tuple[int, ...]``."""
    for index, part in enumerate(loc):
        if isinstance(part, str) and _UNION_ALTERNATIVE.fullmatch(part):
            return loc[:index]
    return loc


def _explain(key: KeyPath, details: list[Any], written: Sources) -> tuple[str, str]:
    name, origin = dotted(key), written.origin(key)
    if details[0]["type"] == "extra_forbidden":
        return f"{name}: unknown key ({origin})", _closest_key(key)
    if details[0]["type"] == "missing":
        return f"{name}: required, but not set ({origin})", f"Set {name}."
    allowed = " or ".join(dict.fromkeys(_sentence(detail["msg"]) for detail in details))
    value = json.dumps(_value(written.values, key, details[0]["input"]), default=str)
    return f"{name}: {value} is not allowed ({origin}); allowed: {allowed}", f"Set {name} to an allowed value."


def _closest_key(key: KeyPath) -> str:
    match = nearest(re.sub(r"\[\d+\]", "[]", dotted(key)))
    if match is None:
        return "`ascend-serve config --reference` lists all keys; vLLM's engine arguments go below vllm:"
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
