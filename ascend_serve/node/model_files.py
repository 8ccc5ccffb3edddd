"""A model folder as one machine sees it: what is there, what cannot be read, what is missing."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ascend_serve.node.finding import Finding, fail, merge, ok

_DIGESTED = re.compile(r"config\.json|.*\.safetensors\.index\.json")
_INDEX = "*.safetensors.index.json"
_SHOWN = 3
"""How many files an error names."""


class ModelFacts(BaseModel):
    """A model folder as one node sees it.

    Attributes:
        path: The folder.
        problem: Why it is not a folder that can be read; empty where it is one.
        files: Size in bytes by file name; empty when the folder is missing.
        digest: Hash of names, sizes, ``config.json`` and the safetensors index; equal for equal folders.
        unreadable: Files that this user may not read.
        missing: Files that the folder promises and lacks: links that lead nowhere, shards of the safetensors index.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    problem: str = ""
    files: dict[str, int] = {}
    digest: str | None = None
    unreadable: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def is_model(self) -> bool:
        """Whether it is a folder that can be read, with the configuration of a model, be that a broken link."""
        return not self.problem and ("config.json" in self.files or "config.json" in self.missing)


def model_facts(path: str) -> ModelFacts:
    """Look at a model folder.

    The hash covers names, sizes, ``config.json`` and the safetensors index, not the weights, so it is cheap.
    """
    try:
        entries = sorted(entry for entry in Path(path).iterdir() if not entry.name.startswith("."))
        files = [entry for entry in entries if entry.is_file()]
        sizes = {entry.name: entry.stat().st_size for entry in files}
        unreadable = [entry.name for entry in files if not os.access(entry, os.R_OK)]
        readable = [entry for entry in files if entry.name not in unreadable]
        dangling = [entry.name for entry in entries if not entry.exists()]
        digest = hashlib.sha256(repr(sizes).encode())
        for entry in readable:
            if _DIGESTED.fullmatch(entry.name):
                digest.update(entry.read_bytes())
        missing = dict.fromkeys([*dangling, *_missing_shards(readable, sizes)])
    except OSError as error:
        return ModelFacts(path=path, problem=_problem(path, error))
    return ModelFacts(
        path=path,
        files=sizes,
        digest=digest.hexdigest(),
        unreadable=tuple(unreadable),
        missing=tuple(missing),
    )


def check_model_files(model: ModelFacts) -> Finding:
    """The folder and the files that will be read."""
    if model.problem:
        return fail(f"{model.path} {model.problem}", "mount or copy the model to the same path on every node")
    if not model.is_model:
        return fail(f"{model.path} has no config.json", "copy the whole model folder")
    return merge(_broken(model), ok(f"{model.path}: {len(model.files)} files, {_gigabytes(model):.1f} GB"))


def _problem(path: str, error: OSError) -> str:
    if not os.path.exists(path):
        return "does not exist"
    return "is a file, not a folder" if os.path.isfile(path) else f"cannot be read: {error.strerror}"


def _broken(model: ModelFacts) -> Iterator[Finding]:
    if model.unreadable:
        yield fail(
            f"{model.path}: this user ({os.geteuid()}) may not read {_some(model.unreadable)}",
            f"`chmod -R a+rX {model.path}` by its owner, or another user",
        )
    if model.missing:
        yield fail(f"{model.path} lacks {_some(model.missing)}", "copy or download the whole model folder again")


def _missing_shards(files: list[Path], sizes: dict[str, int]) -> Iterator[str]:
    for index in files:
        if index.match(_INDEX):
            try:
                shards = set(json.loads(index.read_bytes())["weight_map"].values())
            except (ValueError, KeyError, AttributeError, TypeError):
                continue
            yield from sorted(shards - sizes.keys())


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _gigabytes(model: ModelFacts) -> float:
    return sum(model.files.values()) / 1e9
