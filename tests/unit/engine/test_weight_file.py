"""Tensors come out of the file of weights as they went in, in another process too, and when the first one is gone."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ascend_serve.engine.module_state import obstacle
from ascend_serve.engine.weight_file import HeldWeights, WeightWriter
from ascend_serve.engine.weight_source import WeightSource

DTYPES = (
    torch.float32,
    torch.bfloat16,
    torch.float16,
    torch.float64,
    torch.float8_e4m3fn,
    torch.int8,
    torch.uint8,
    torch.int32,
    torch.int64,
    torch.bool,
    torch.complex64,
)
FILES = {"model.safetensors": (12, 34)}


def tensor_of(shape: list[int], dtype: torch.dtype, seed: int, is_transposed: bool, has_gaps: bool) -> torch.Tensor:
    numbers = torch.randint(0, 100, shape, generator=torch.Generator().manual_seed(seed))
    tensor = numbers.to(dtype)
    if is_transposed and len(shape) > 1:
        tensor = tensor.transpose(0, -1)
    if has_gaps and shape:
        tensor = torch.stack([tensor, tensor], -1)[..., 0]
    return tensor


def tensors() -> st.SearchStrategy[torch.Tensor]:
    shapes = st.lists(st.integers(0, 5), max_size=4)
    return st.builds(
        tensor_of,
        shapes,
        st.sampled_from(DTYPES),
        st.integers(0, 2**31),
        is_transposed=st.booleans(),
        has_gaps=st.booleans(),
    )


def written(**models: dict[str, torch.Tensor]) -> HeldWeights:
    writer = WeightWriter()
    for identity, model in models.items():
        writer.add(identity, FILES, model)
    held = writer.finish()
    assert held is not None
    return held


def bits(tensor: torch.Tensor) -> list[int]:
    return tensor.clone(memory_format=torch.contiguous_format).flatten().view(torch.uint8).tolist()


@settings(deadline=None, max_examples=60)
@given(st.lists(tensors(), min_size=1, max_size=4), st.lists(tensors(), max_size=2))
def test_tensors_come_back(target: list[torch.Tensor], draft: list[torch.Tensor]) -> None:
    models = [{f"layer.{n}": tensor for n, tensor in enumerate(model)} for model in (target, draft)]
    held = written(target=models[0], draft=models[1])
    for model, there in zip(models, held.models, strict=True):
        assert there is not None
        assert not obstacle(model)
        copies = {name: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype) for name, t in model.items()}
        held.copy_to(copies, there)
        assert {name: bits(copy) for name, copy in copies.items()} == {name: bits(t) for name, t in model.items()}
        assert all(there.tensors[name].strides == tensor.stride() for name, tensor in model.items())
    assert held.source.bytes == sum(t.numel() * t.element_size() for model in models for t in model.values())
    held.close()


def test_models_that_are_read_from_files_keep_their_number() -> None:
    writer = WeightWriter()
    writer.skip()
    writer.add("draft", FILES, {"weight": torch.ones(3)})
    held = writer.finish()
    assert held is not None
    assert [model and model.identity for model in held.models] == [None, "draft"]
    held.close()


def test_nothing_is_held_of_nothing() -> None:
    writer = WeightWriter()
    writer.skip()
    assert writer.finish() is None


def test_what_is_held_cannot_be_changed() -> None:
    held = written(target={"weight": torch.ones(3)})
    descriptor = held.source.descriptor
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 0)
    with pytest.raises(PermissionError):
        os.pwrite(descriptor, b"x", 0)
    held.close()


def _hold(source: dict[str, Any], answers: Connection) -> None:
    held = HeldWeights.of(WeightSource.model_validate(source))
    answers.send(held.source.model_dump())
    answers.recv()
    (model,) = held.models
    assert model is not None
    copy = torch.zeros(3)
    held.copy_to({"weight": copy}, model)
    answers.send(copy.tolist())


def test_another_process_holds_them_on() -> None:
    """As a spare does: it opens them, the first process lets go, and a third opens them there."""
    context = multiprocessing.get_context("spawn")
    held = written(target={"weight": torch.tensor([1.0, 2.0, 3.0])})
    ours, theirs = context.Pipe()
    spare = context.Process(target=_hold, args=(held.source.model_dump(), theirs))
    spare.start()
    source = WeightSource.model_validate(ours.recv())
    assert source.pid == spare.pid
    held.close()
    again = HeldWeights.of(source)
    assert again.models[0] is not None
    again.close()
    ours.send("go on")
    assert ours.recv() == [1.0, 2.0, 3.0]
    spare.join()
    with pytest.raises(OSError):
        HeldWeights.of(source)


def test_a_number_that_another_file_has_by_now_is_refused() -> None:
    held, other = written(target={"weight": torch.ones(1)}), written(target={"weight": torch.zeros(1)})
    swapped = held.source.model_copy(update={"descriptor": other.source.descriptor})
    with pytest.raises(ValueError, match="other weights"):
        HeldWeights.of(swapped)
    reader, writer = os.pipe()
    with pytest.raises(ValueError, match="another file"):
        HeldWeights.of(held.source.model_copy(update={"descriptor": reader}))
    unfinished = os.memfd_create("ascend_serve-weights")
    with pytest.raises(ValueError, match="no weights"):
        HeldWeights.of(held.source.model_copy(update={"descriptor": unfinished}))
    for descriptor in (reader, writer, unfinished):
        os.close(descriptor)
    held.close()
    other.close()


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        pytest.param(torch.ones(2, device="meta"), "no memory", id="meta"),
        pytest.param(torch.ones(1).expand(3), "share their memory", id="expanded"),
        pytest.param(torch.ones(2, 2).to_sparse(), "no plain tensor", id="sparse"),
        pytest.param(torch.ones(2, 3).t(), "", id="transposed"),
    ],
)
def test_what_cannot_be_copied_back_is_not_held(tensor: torch.Tensor, reason: str) -> None:
    found = obstacle({"weight": tensor})
    assert reason in found
    assert bool(found) == bool(reason)
