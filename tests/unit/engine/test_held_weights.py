"""Weights are copied from what is held exactly where a file would give the same; vLLM's own loader reads the files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

held_weights = pytest.importorskip("ascend_serve.engine.held_weights", reason="vLLM is not installed")

from vllm.config import LoadConfig, VllmConfig, set_current_vllm_config  # noqa: E402
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader  # noqa: E402

NUMBERS = torch.arange(6.0).reshape(2, 3)


class Model(torch.nn.Module):
    """A model that loads as those of vLLM do."""

    def __init__(self, columns: int = 3) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2, columns), requires_grad=False)
        self.register_buffer("table", torch.ones(2), persistent=False)

    def load_weights(self, weights: Iterator[tuple[str, torch.Tensor]]) -> set[str]:
        names = set()
        for name, tensor in weights:
            getattr(self, name).data.copy_(tensor)
            names.add(name)
        return names


class Noting(Model):
    """A draft model that notes what it has."""

    def load_weights(self, weights: Iterator[tuple[str, torch.Tensor]]) -> set[str]:
        self.has_own_head = True
        return super().load_weights(weights)


class Loads:
    """What is loaded, by workers one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hash = "configuration"
        self.write(NUMBERS)

    def write(self, numbers: torch.Tensor) -> None:
        save_file({"weight": numbers}, self.folder / "model.safetensors")

    def start(self, holder: Any, *models: Any, loader: Any = DefaultModelLoader) -> None:
        """Load them on one worker."""
        config: Any = SimpleNamespace(
            model=str(self.folder),
            revision=None,
            quantization=None,
            is_moe=False,
            multimodal_config=None,
            compute_hash=lambda: self.hash,
        )
        with self._loading(holder), set_current_vllm_config(VllmConfig()):
            for model in models:
                loader(LoadConfig()).load_weights(model, config)

    @contextmanager
    def _loading(self, holder: Any) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(held_weights, "read_settings", lambda config: SimpleNamespace(holds_weights=True))
            patched.setattr(held_weights, "_layout", lambda worker: "rank 0 of 1")
            with holder.loading(SimpleNamespace(vllm_config=None), 1):
                yield


@pytest.fixture
def loads(tmp_path: Path) -> Loads:
    return Loads(tmp_path)


@pytest.fixture
def spare(loads: Loads) -> Any:
    """That of a process which holds what a worker has read."""
    worker = held_weights.WeightHolder()
    model = Model()
    loads.start(worker, model)
    assert model.weight.equal(NUMBERS)
    assert not worker.told().from_host
    spare = held_weights.WeightHolder()
    assert spare.take(worker.told().source) == ""
    return spare


def test_they_are_copied_also_where_the_files_are_away(loads: Loads, spare: Any) -> None:
    (loads.folder / "model.safetensors").unlink()
    model = Model()
    model.table.zero_()
    loads.start(spare, model)
    assert model.weight.equal(NUMBERS)
    assert model.table.equal(torch.ones(2))
    assert spare.told().from_host
    after = held_weights.WeightHolder()
    assert after.take(spare.told().source) == ""


@pytest.mark.parametrize("what", ["contents", "time", "name"])
def test_files_that_changed_are_read(what: str, loads: Loads, spare: Any, caplog: pytest.LogCaptureFixture) -> None:
    file = loads.folder / "model.safetensors"
    if what == "contents":
        loads.write(NUMBERS + 1)
    elif what == "time":
        os.utime(file, ns=(1, 1))
    else:
        file.rename(loads.folder / "other.safetensors")
    model, source = Model(), spare.told().source
    loads.start(spare, model)
    assert model.weight.equal(NUMBERS + (what == "contents"))
    assert "changed since" in caplog.text
    assert not spare.told().from_host
    assert spare.told().source.token != source.token
    again = Model()
    loads.start(spare, again)
    assert again.weight.equal(model.weight)
    assert spare.told().from_host


def test_another_configuration_reads(loads: Loads, spare: Any, caplog: pytest.LogCaptureFixture) -> None:
    loads.hash = "another"
    loads.start(spare, Model())
    assert "another configuration" in caplog.text
    assert not spare.told().from_host


def test_other_shapes_read(loads: Loads, spare: Any, caplog: pytest.LogCaptureFixture) -> None:
    numbers = torch.ones(2, 4)
    file = loads.folder / "model.safetensors"
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    file.unlink()
    with pytest.raises(RuntimeError, match="Cannot find any model weights"):
        loads.start(spare, Model(4))
    loads.write(numbers)
    os.utime(file, ns=times)
    model = Model(4)
    loads.start(spare, model)
    assert model.weight.equal(numbers)
    assert "other shapes" in caplog.text


def test_a_model_that_notes_more_is_not_held(loads: Loads, caplog: pytest.LogCaptureFixture) -> None:
    worker, spare = held_weights.WeightHolder(), held_weights.WeightHolder()
    loads.start(worker, Noting(), Model(), Noting())
    assert "has_own_head" in caplog.text
    spare.take(worker.told().source)
    noting, model = Noting(), Model()
    loads.start(spare, noting, model, Noting())
    assert noting.has_own_head
    assert model.weight.equal(NUMBERS)
    assert spare.told().from_host
    loads.start(nothing := held_weights.WeightHolder(), Noting())
    assert nothing.told().source is None


def test_nothing_is_held_without_room(
    loads: Loads, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(held_weights, "available_memory", lambda: 2 * (24 + 8) - 1)
    loads.start(holder := held_weights.WeightHolder(), Model())
    assert holder.told().source is None
    assert "less than twice" in caplog.text
    monkeypatch.setattr(held_weights, "available_memory", lambda: 2 * (24 + 8))
    loads.start(holder, Model())
    assert holder.told().source.bytes == 24 + 8


class OtherLoader(DefaultModelLoader):
    """A loader of somebody else's."""


def test_other_loaders_are_left_alone(loads: Loads) -> None:
    loads.start(holder := held_weights.WeightHolder(), model := Model(), loader=OtherLoader)
    assert model.weight.equal(NUMBERS)
    assert holder.told().source is None


def test_a_process_that_is_gone_gives_nothing(loads: Loads, spare: Any) -> None:
    gone = spare.told().source.model_copy(update={"pid": 2**22 - 1})
    holder = held_weights.WeightHolder()
    assert "No such" in holder.take(gone)
    assert holder.told().source is None


def test_vllm_is_as_before_afterwards(loads: Loads, spare: Any) -> None:
    before = DefaultModelLoader.load_weights
    loads.start(spare, Model())
    assert DefaultModelLoader.load_weights is before
