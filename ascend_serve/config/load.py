"""Loading: what the user wrote, validated against the schema, or every problem in it at once."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ascend_serve.config import sources
from ascend_serve.config.combinations import check, ineffective_options
from ascend_serve.config.layers import Source
from ascend_serve.config.model_cache import cached_model
from ascend_serve.config.overrides import Overrides
from ascend_serve.config.refusal import refusals
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.config.sources import Sources
from ascend_serve.errors import ConfigError

logger = logging.getLogger(__name__)


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
        raise ConfigError.of(written.name, refusals(error, written)) from None


def _with_absolute_model(config: AscendServeConfig) -> AscendServeConfig:
    """Make a relative folder absolute here: the processes that load it may run in another directory.

    A model's id becomes the folder of it in a cache, which a deployment looks for at the same path on every node.
    """
    folder = Path(config.model.path)
    if config.model.is_built_in or folder.is_absolute():
        return config
    cached = cached_model(config.model.path, config.vllm.get("revision"))
    if cached is None and not folder.is_dir():
        return config
    found = {"path": str((cached or folder).absolute()), "served_name": config.model.name}
    model = config.model.model_copy(update=found if cached else {"path": found["path"]})
    return config.model_copy(update={"model": model})
