"""The weights of a rank, held in the memory of its node while it serves, for the process that takes its place.

What is held is what vLLM's default loader (``DefaultModelLoader``, 0.23.0 to 0.33.0) has read, before anything is made
of it, so that formats of quantizations and devices come about as ever. The worker that reads the files makes the copy,
its spare opens it too, and copies from there when it becomes the worker. Other loaders are left alone, and so is all
that happens after the start, as vLLM's ``reload_weights``.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
import vllm

from ascend_serve.engine.group_settings import read_settings
from ascend_serve.engine.module_state import difference, held_tensors, module_state, obstacle
from ascend_serve.engine.proposal import group_rank
from ascend_serve.engine.weight_file import HeldModel, HeldWeights, WeightWriter, described
from ascend_serve.engine.weight_source import RankWeights, WeightSource
from ascend_serve.node.host_memory import available_memory, no_room
from ascend_serve.node.model_download import HubModel

if TYPE_CHECKING:
    from vllm.config import ModelConfig
    from vllm.v1.worker.worker_base import WorkerBase

logger = logging.getLogger(__name__)
_rank_log = logging.getLogger(f"{vllm.__name__}.ascend_serve")
"""Below vLLM's own, whose handler also writes what is no warning into the log of a rank."""

_FORMATS = frozenset({"auto", "hf", "safetensors", "pt", "npcache", "mistral"})
"""Formats that each rank reads by itself; for others of the default loader all ranks read together, or none may."""
_WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".pth"})
_SHOWN = 3
"""How many files a reason names."""


class WeightHolder:
    """What this process holds of the weights of its rank."""

    def __init__(self) -> None:
        self._held: HeldWeights | None = None
        self._from_host = False

    def take(self, source: WeightSource) -> str:
        """Hold what another process of this node holds.

        Args:
            source: Where it is there.

        Returns:
            Why that is not possible; empty where it is.
        """
        try:
            self._keep(HeldWeights.of(source))
        except (OSError, ValueError) as error:
            return str(error)
        return ""

    def told(self) -> RankWeights:
        """What there is to tell of them."""
        return RankWeights(source=None if self._held is None else self._held.source, from_host=self._from_host)

    @contextmanager
    def loading(self, worker: WorkerBase, ranks_here: int) -> Iterator[None]:
        """While it lasts, weights are copied from what is held where they can be, else held if they shall be.

        Args:
            worker: The worker that loads its model, with all that belongs to it.
            ranks_here: Ranks that do so on this node.
        """
        if not read_settings(worker.vllm_config).holds_weights:
            yield
            return
        from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

        models = _Models(self._held, _layout(worker), ranks_here)
        original = DefaultModelLoader.load_weights

        def load_weights(loader: Any, model: torch.nn.Module, model_config: ModelConfig) -> None:
            if type(loader) is DefaultModelLoader and loader.load_config.load_format in _FORMATS:
                models.load(lambda: original(loader, model, model_config), model, model_config)
            else:
                original(loader, model, model_config)

        try:
            with patch.object(DefaultModelLoader, "load_weights", load_weights):
                yield
        finally:
            self._from_host = models.copied > 0
            self._keep(models.finish())

    def _keep(self, held: HeldWeights | None) -> None:
        if self._held is not None and self._held is not held:
            self._held.close()
        self._held = held


HOLDER = WeightHolder()
"""That of this process."""


class _Models:
    """The models that one worker loads, one after the other.

    Args:
        held: What is held of them.
        layout: Which part of each is this rank's.
        ranks_here: Ranks that load on this node.

    Attributes:
        copied: How many were copied from what is held.
    """

    def __init__(self, held: HeldWeights | None, layout: str, ranks_here: int) -> None:
        self.copied = 0
        self._held = held
        self._layout = layout
        self._ranks_here = ranks_here
        self._number = -1
        self._writer: WeightWriter | None = None

    def load(self, read: Callable[[], None], module: torch.nn.Module, model_config: ModelConfig) -> None:
        """Load one, by ``read`` where it has to be read."""
        self._number += 1
        try:
            model = _Model(module, self._identity(model_config), model_files(model_config))
            before = module_state(module)
        # Whatever vLLM cannot hash or torch not describe: files are there to be read.
        except Exception as error:
            self._read_only(read, f"{type(error).__name__}: {error}")
            return
        if self._held is not None:
            if self._number >= len(self._held.models) or (held := self._held.models[self._number]) is None:
                read()
                return
            reason = self._copy(self._held, held, model)
            if not reason:
                return
            logger.warning("Weights are read anew, and not copied from the memory of this host: %s", reason)
            # Or there might be no room for the others.
            self._held.close()
            self._held = None
        read()
        try:
            reason = self._hold(before, model)
        except Exception as error:
            self._drop()
            reason = f"{type(error).__name__}: {error}"
        if reason:
            self._refuse(reason)

    def finish(self) -> HeldWeights | None:
        """What is held now."""
        if self._held is not None or self._writer is None:
            return self._held
        try:
            return self._writer.finish()
        except OSError as error:
            self._drop()
            self._refuse(str(error))
            return None

    def _copy(self, file: HeldWeights, held: HeldModel, model: _Model) -> str:
        """Copy one; answers why it has to be read instead, empty where it was copied."""
        started = time.monotonic()
        try:
            tensors = held_tensors(model.module)
            reason = mismatch(held, model.identity, model.files, tensors)
            if reason:
                return reason
            file.copy_to(tensors, held)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        self.copied += 1
        _log("Copied %.2f GiB of weights from the memory of this host in %.1f s", tensors, started)
        return ""

    def _hold(self, before: Mapping[str, Any], model: _Model) -> str:
        """Hold one that was read; answers why not, empty where it is."""
        changed = difference(before, module_state(model.module))
        if changed:
            return f"loading them changed {changed} too"
        started, tensors = time.monotonic(), held_tensors(model.module)
        reason = obstacle(tensors) or no_room(_size(tensors) * self._ranks_here, available_memory())
        if reason:
            return reason
        if self._writer is None:
            self._writer = WeightWriter()
            for _ in range(self._number):
                self._writer.skip()
        self._writer.add(model.identity, model.files, tensors)
        _log("Hold %.2f GiB of weights in the memory of this host, copied in %.1f s", tensors, started)
        return ""

    def _read_only(self, read: Callable[[], None], reason: str) -> None:
        read()
        self._held = None
        self._refuse(reason)

    def _refuse(self, reason: str) -> None:
        logger.warning("Weights are not held in the memory of this host: %s", reason)
        if self._writer is not None:
            self._writer.skip()

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _identity(self, model_config: ModelConfig) -> str:
        """What weights depend on: configuration, number format and quantization as vLLM hashes them, and the part."""
        made = (vllm.__version__, torch.__version__, model_config.compute_hash(), self._layout)
        return hashlib.sha256(repr(made).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Model:
    """A model that is about to be loaded.

    Attributes:
        module: With its weights as they were made.
        identity: As of `HeldModel`.
        files: As of `HeldModel`.
    """

    module: torch.nn.Module
    identity: str
    files: Mapping[str, tuple[int, int]]


def mismatch(
    held: HeldModel, identity: str, files: Mapping[str, tuple[int, int]], tensors: Mapping[str, torch.Tensor]
) -> str:
    """Why tensors cannot be copied from what is held; empty where they can.

    Args:
        held: What is held.
        identity: Of the model that is loaded.
        files: Of the model's folder; without any weights, because the folder is away for example, nothing is newer.
        tensors: The model's.
    """
    if held.identity != identity:
        return "they are of another configuration"
    if any(Path(name).suffix in _WEIGHTS for name in files) and dict(held.files) != dict(files):
        changed = sorted(dict(set(held.files.items()) ^ set(files.items())))
        return f"{', '.join(changed[:_SHOWN])} changed since"
    here = {name: described(tensor) for name, tensor in tensors.items()}
    there = {name: tensor.model_copy(update={"offset": 0}) for name, tensor in held.tensors.items()}
    if here != there:
        return "they have other shapes or types"
    return ""


def model_files(model_config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Size and time of change, in nanoseconds, of each file of weights or JSON; empty where the folder is not there."""
    folder = Path(model_config.model)
    hub = HubModel.at(model_config.model, model_config.revision)
    if hub is not None and hub.folder is not None:
        folder = hub.folder
    try:
        found = {file.name: file.stat() for file in folder.iterdir() if file.suffix in {*_WEIGHTS, ".json"}}
    except OSError:
        return {}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in sorted(found.items())}


def _layout(worker: WorkerBase) -> str:
    """Which part of a model is this rank's."""
    parallel = worker.vllm_config.parallel_config
    sizes = (
        parallel.tensor_parallel_size,
        parallel.pipeline_parallel_size,
        parallel.data_parallel_size,
        parallel.prefill_context_parallel_size,
        parallel.decode_context_parallel_size,
        parallel.enable_expert_parallel,
    )
    return repr((sizes, group_rank(worker)))


def _size(tensors: Mapping[str, torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _log(text: str, tensors: Mapping[str, torch.Tensor], started: float) -> None:
    _rank_log.info(text, _size(tensors) / 2**30, time.monotonic() - started)
