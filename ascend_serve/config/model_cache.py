"""Models by their id, ``ORGANIZATION/NAME``: where the caches of Hugging Face and ModelScope keep them.

The layouts are those of huggingface_hub (``models--ORG--NAME/refs`` and ``/snapshots``) and of ModelScope
(``hub/models/ORG/NAME``, older releases ``hub/ORG/NAME``, with dots as three underscores); neither has to be installed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_MAIN = "main"
_FILES = (".yaml", ".yml", ".json")


def is_model_id(path: str) -> bool:
    """Whether ``path`` has the form of a model's id."""
    return _ID.fullmatch(path) is not None


def means_model_id(path: str) -> bool:
    """Whether ``path`` is a model's id and no file's: there is no folder of its owner."""
    return is_model_id(path) and not path.endswith(_FILES) and not os.path.isdir(os.path.dirname(path))


def cached_model(model: str, revision: str | None = None, environment: Mapping[str, str] | None = None) -> Path | None:
    """The folder of a model in the caches of this machine; ``None`` where neither has it.

    Args:
        model: Its id; a folder of that name comes first, so nothing is looked up for one.
        revision: Branch, tag or commit at Hugging Face; the main one when not given.
        environment: Environment variables; those of this process when not given.
    """
    if not is_model_id(model) or os.path.isdir(model):
        return None
    environment = os.environ if environment is None else environment
    folders = (*_of_hugging_face(model, revision or _MAIN, environment), *_of_model_scope(model, environment))
    return next((folder for folder in folders if os.path.isfile(folder / "config.json")), None)


def how_to_download(model: str) -> str:
    """What to run so that the model is in a cache."""
    return (
        f"Run `hf download {model}`, or `modelscope download --model {model}`, on every node, or copy the folder there "
        "and set model.path to it."
    )


def _of_hugging_face(model: str, revision: str, environment: Mapping[str, str]) -> Iterator[Path]:
    folder = hugging_face_cache(environment) / f"models--{model.replace('/', '--')}"
    try:
        commit = (folder / "refs" / revision).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        commit = revision
    yield folder / "snapshots" / commit


def hugging_face_cache(environment: Mapping[str, str]) -> Path:
    """The folder of huggingface_hub's cache: its ``constants.HF_HUB_CACHE``, which is read only once there."""
    said = environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE")
    if said:
        return Path(said).expanduser()
    home = environment.get("HF_HOME")
    return (Path(home).expanduser() if home else _cache(environment) / "huggingface") / "hub"


def _of_model_scope(model: str, environment: Mapping[str, str]) -> Iterator[Path]:
    said = environment.get("MODELSCOPE_CACHE")
    base = Path(said).expanduser() if said else _cache(environment) / "modelscope"
    for name in (model, model.replace(".", "___")):
        yield from (base / below / name for below in ("hub/models", "models", "hub", "."))


def _cache(environment: Mapping[str, str]) -> Path:
    said = environment.get("XDG_CACHE_HOME")
    return Path(said).expanduser() if said else Path(environment.get("HOME", "~")).expanduser() / ".cache"
