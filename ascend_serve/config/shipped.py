"""What a configuration is called on a command line: a file, the folder of a model, or one that is shipped, by name."""

from __future__ import annotations

import difflib
import logging
import os
from pathlib import Path

from ascend_serve.config.model_cache import cached_model, means_model_id
from ascend_serve.errors import ConfigError

logger = logging.getLogger(__name__)

_PACKAGE = Path(__file__).resolve().parents[1]

LAUNCH = _PACKAGE / "launch"
"""Scripts that start Ray on a node, manifests and a container file."""

CPU_LOCK = _PACKAGE / "requirements" / "cpu.lock"
"""What emulated NPUs need beside torch, pinned."""

_CONFIGS = _PACKAGE / "configs"


def shipped() -> dict[str, Path]:
    """The configurations that come with the package, by name."""
    return {file.stem: file for file in sorted(_CONFIGS.glob("*.yaml"), key=lambda file: file.stem)}


def summary(file: Path) -> str:
    """The first sentence of the comment at the top of a configuration."""
    first = file.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip()


def find(name: str | os.PathLike[str]) -> Path:
    """The YAML file or the model's folder that ``name`` stands for; a shipped one is told in the log.

    A file or a model's folder of that name comes first, then the configuration that is shipped.

    Args:
        name: A path, or the name of a shipped configuration such as ``qwen3-32b`` or ``qwen3-32b.yaml``.

    Raises:
        ConfigError: There is nothing of that name, or a folder that holds no model.
    """
    path = Path(name)
    if os.path.isfile(path) or is_model(path) or cached_model(str(name)) is not None:
        return path
    file = shipped().get(str(name).removesuffix(".yaml"))
    if file is not None:
        logger.info("%s is the configuration %s", name, file)
        return file
    if os.path.isdir(path):
        raise ConfigError(f"{name}: a folder without config.json", f"Give the folder of a model, {_OTHERS}.")
    if os.path.exists(path) or means_model_id(str(name)):
        return path  # A pipe, for example, or a model that is not in a cache yet.
    raise ConfigError(f"{name}: no such file", f"{_nearest(path)}Give a YAML file, the folder of a model, {_OTHERS}.")


def is_model(path: Path) -> bool:
    """Whether ``path`` is the folder of a model."""
    return os.path.isfile(path / "config.json")


_OTHERS = "or the name of a configuration that `ascend-serve config --list` shows, for example demo"


def _nearest(path: Path) -> str:
    near = difflib.get_close_matches(path.stem, shipped(), n=1)
    return f"Did you mean {near[0]}? " if near else ""
