"""The model that needs no download, ``model.path: demo``: on each node, whoever needs it first makes it there."""

from __future__ import annotations

from pathlib import Path

from ascend_serve.cache import cache_folder
from ascend_serve.config.schema import BUILT_IN_MODEL
from ascend_serve.errors import ModelError


def folder() -> Path:
    """Where it is on this node, whether it has been made or not."""
    from ascend_serve.emulated.demo_model import recipe_digest

    return cache_folder() / "models" / f"{BUILT_IN_MODEL}-{recipe_digest()}"


def provide() -> Path:
    """Make it on this node if it is not there, and tell where it is.

    Raises:
        ModelError: It cannot be written.
    """
    from ascend_serve.emulated.demo_model import make_demo_model

    try:
        return make_demo_model(folder())
    except OSError as error:
        raise ModelError(
            f"model.path: {BUILT_IN_MODEL}: {folder()} cannot be written: {error.strerror or error}",
            "Let XDG_CACHE_HOME name a folder that can be written, on every node, or set another model.path.",
        ) from error
