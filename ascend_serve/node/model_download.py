"""Models by id that a node does not have, or not whole: downloaded into the cache of Hugging Face.

A deployment finds a model at one path on all nodes; below ``models--ORG--NAME/snapshots/COMMIT`` that path says itself
what belongs there, so a node that lacks it downloads the very same commit.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ascend_serve.config.model_cache import cached_model, how_to_download, hugging_face_cache, means_model_id
from ascend_serve.errors import ModelError
from ascend_serve.node.model_files import model_facts

logger = logging.getLogger(__name__)

_SNAPSHOT = re.compile(r"(?P<cache>.+)/models--(?P<owner>[^/]+?)--(?P<name>[^/]+)/snapshots/(?P<commit>[^/]+)")
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_TRUE = ("1", "on", "yes", "true")
"""As huggingface_hub reads them."""
_NEVER_READ = ("*.bin", "*.pt", "*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "*.ot", "original/*", "consolidated*")
"""The same weights in other formats, beside the safetensors that are served."""


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model at Hugging Face.

    Attributes:
        name: Its id.
        revision: Branch, tag or commit; the main one where ``None``.
        cache: The cache's folder.
        folder: Where it is in the cache, or would be; unknown where ``None``.
    """

    name: str
    revision: str | None
    cache: Path
    folder: Path | None

    @classmethod
    def at(cls, path: str, revision: str | None = None) -> Self | None:
        """What ``model.path`` stands for; ``None`` where that is any other folder.

        Args:
            path: An id, or a folder of the cache.
            revision: Of an id.
        """
        found = _SNAPSHOT.fullmatch(path)
        if found:
            name = f"{found['owner']}/{found['name']}"
            return cls(name, found["commit"], Path(found["cache"]), Path(path))
        if not means_model_id(path):
            return None
        return cls(path, revision, hugging_face_cache(os.environ), cached_model(path, revision))

    def is_whole(self) -> bool:
        """Whether the cache has all files that its index promises."""
        if self.folder is None:
            return False
        facts = model_facts(str(self.folder))
        return facts.is_model and not facts.missing and any(name.endswith(".safetensors") for name in facts.files)

    def download(self) -> Path:
        """Download what the cache lacks; a download that was interrupted is continued, and others are waited for.

        Raises:
            ModelError: It cannot be downloaded, with what to do.
        """
        if is_offline(os.environ):
            raise ModelError(
                f"model.path: {self.name} is not whole in the cache, and {' or '.join(_OFFLINE)} forbids downloads",
                how_to_download(self.name),
            )
        try:
            from huggingface_hub import snapshot_download
        except ImportError as error:
            raise ModelError(
                f"model.path: {self.name} is not in a cache, and huggingface_hub is not installed to download it",
                how_to_download(self.name),
            ) from error
        logger.warning("%s is not whole in the cache of Hugging Face; downloading it", self.name)
        try:
            folder = snapshot_download(
                self.name,
                revision=self.revision,
                cache_dir=self.cache,
                endpoint=_endpoint(os.environ),
                ignore_patterns=list(_NEVER_READ),
            )
        except Exception as error:
            raise _explained(self, error) from error
        return Path(folder)


def is_offline(environment: Mapping[str, str]) -> bool:
    """Whether downloads are forbidden, by the variables of huggingface_hub."""
    return any(environment.get(name, "").lower() in _TRUE for name in _OFFLINE)


def _endpoint(environment: Mapping[str, str]) -> str:
    """``huggingface_hub.constants.ENDPOINT``."""
    return environment.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def provide_model(path: str, revision: str | None = None) -> str:
    """The folder of a model on this node, where it is downloaded if it has an id and is not whole.

    Args:
        path: ``model.path``; any folder that is no part of the cache is returned as it is.
        revision: Of an id.

    Raises:
        ModelError: It cannot be downloaded, with what to do.
    """
    model = HubModel.at(path, revision)
    if model is None or model.is_whole():
        return str(model.folder) if model and model.folder else path
    return str(model.download())


def _explained(model: HubModel, error: Exception) -> ModelError:
    """By huggingface_hub's own errors (2.4.0): which of the things went wrong that a user can act on."""
    from huggingface_hub import errors

    problem = f"model.path: {model.name} cannot be downloaded from {_endpoint(os.environ)}"
    by_hand = how_to_download(model.name)
    if isinstance(error, errors.GatedRepoError):
        remedy = "Ask for access on its page, then run `hf auth login` or set HF_TOKEN."
        return ModelError(f"{problem}: it is gated", remedy)
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelError(
            f"{problem}: there is no such model, or it is private",
            "Correct the id (ORGANIZATION/NAME), or run `hf auth login` for a private one.",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(f"{problem}: it has no revision {model.revision}", "Correct vllm.revision.")
    if isinstance(error, OSError) and error.errno is not None:
        reason = f"{problem}: {error.strerror or error}"
        return ModelError(reason, "Make room, or let HF_HOME name a folder with room for it; what is there is kept.")
    reason = str(error).partition("\n")[0]
    name = "" if isinstance(error, errors.LocalEntryNotFoundError) else f"{type(error).__name__}: "
    return ModelError(f"{problem}: {name}{reason}", f"{by_hand} HF_ENDPOINT names another hub, such as a mirror.")
