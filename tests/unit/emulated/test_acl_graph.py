"""The graph wrapper: when it captures, when it replays, and what a failure leaves behind."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.config import CUDAGraphMode
from vllm.forward_context import BatchDescriptor, ForwardContext, override_forward_context

from ascend_serve.emulated import acl_graph
from ascend_serve.emulated.acl_graph import ACLGraphWrapper, _acl_graph_wrappers
from ascend_serve.emulated.device import EmulatedDevice, current_device, initialize_device
from ascend_serve.emulated.faults import FaultScript
from ascend_serve.emulated.platform import EmulatedNPUPlatform
from ascend_serve.emulated.stream_pool import StreamPool
from ascend_serve.engine import graph_wrappers
from ascend_serve.engine.runner_v1 import FirstRunnerSeam

CONFIG: Any = SimpleNamespace(compilation_config=None)


class Doubler:
    """A model that counts its runs."""

    name = "doubler"

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        return ((x + 1) * 2).relu() - 2


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatedDevice]:
    monkeypatch.setattr(acl_graph, "current_platform", EmulatedNPUPlatform())
    monkeypatch.setattr(EmulatedNPUPlatform, "_global_graph_pool", None)
    before = current_device()
    device = EmulatedDevice(streams=StreamPool(quota=3))
    initialize_device(device)
    yield device
    initialize_device(before)


def step(size: int, mode: CUDAGraphMode = CUDAGraphMode.FULL) -> AbstractContextManager[None]:
    """A forward context in which the dispatcher chose ``mode`` at this capture size."""
    return override_forward_context(
        ForwardContext(
            no_compile_layers={},
            attn_metadata=None,
            slot_mapping={},
            batch_descriptor=BatchDescriptor(size),
            cudagraph_runtime_mode=mode,
        )
    )


def test_first_call_captures_and_the_next_replays() -> None:
    model, x = Doubler(), torch.ones(4)
    wrapper = ACLGraphWrapper(model, CONFIG, CUDAGraphMode.FULL)
    with torch.inference_mode(), step(4):
        first = wrapper(x)
        x.fill_(5)
        again = wrapper(x)
    assert again is first
    assert again.tolist() == [10.0] * 4
    assert model.runs == 1


@pytest.mark.parametrize("mode", [CUDAGraphMode.NONE, CUDAGraphMode.PIECEWISE], ids=lambda mode: mode.name)
def test_other_modes_run_eager(mode: CUDAGraphMode) -> None:
    model = Doubler()
    wrapper = ACLGraphWrapper(model, CONFIG, CUDAGraphMode.FULL)
    with step(4, mode):
        wrapper(torch.ones(4))
        wrapper(torch.ones(4))
    assert (model.runs, wrapper.concrete_aclgraph_entries) == (2, {})


def test_without_a_forward_context_it_runs_eager() -> None:
    wrapper = ACLGraphWrapper(Doubler(), CONFIG, CUDAGraphMode.FULL)
    assert wrapper(torch.ones(1)).tolist() == [2.0]


def test_one_entry_for_each_descriptor(device: EmulatedDevice) -> None:
    wrapper = ACLGraphWrapper(Doubler(), CONFIG, CUDAGraphMode.FULL)
    for size in (4, 2, 4):
        with torch.inference_mode(), step(size):
            wrapper(torch.ones(size))
    assert list(wrapper.concrete_aclgraph_entries) == [BatchDescriptor(4), BatchDescriptor(2)]
    assert device.streams.used == 2
    entry = wrapper.concrete_aclgraph_entries.pop(BatchDescriptor(4))
    entry.aclgraph.reset()
    assert device.streams.used == 1


@pytest.mark.parametrize("error", ["unknown", "not_capturable", "out_of_memory", "stream_exhausted", "old_hdk"])
def test_a_failed_capture_leaves_nothing_behind(error: str, device: EmulatedDevice) -> None:
    device.faults = FaultScript([{"rank": 0, "phase": "capture", "size": 4, "error": error}])
    model = Doubler()
    wrapper = ACLGraphWrapper(model, CONFIG, CUDAGraphMode.FULL)
    with torch.inference_mode(), step(4):
        with pytest.raises((RuntimeError, torch.OutOfMemoryError)):
            wrapper(torch.ones(4))
        gc.collect()  # the error's frames hold on to the graph
        assert (wrapper.concrete_aclgraph_entries, device.streams.used) == ({}, 0)
        x = torch.ones(4)
        wrapper(x)
        assert wrapper(x).tolist() == [2.0] * 4


def test_graphs_beyond_the_quota_are_refused(device: EmulatedDevice) -> None:
    wrapper = ACLGraphWrapper(Doubler(), CONFIG, CUDAGraphMode.FULL)
    for size in (8, 4, 2):
        with torch.inference_mode(), step(size):
            wrapper(torch.ones(size))
    with torch.inference_mode(), step(1), pytest.raises(RuntimeError, match="207008"):
        wrapper(torch.ones(1))
    assert [key.num_tokens for key in wrapper.concrete_aclgraph_entries] == [8, 4, 2]
    assert device.streams.left == 0


def test_after_a_refusal_graphs_are_captured_into_another_pool(
    device: EmulatedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_wrappers, "current_platform", EmulatedNPUPlatform())
    wrapper = ACLGraphWrapper(Doubler(), CONFIG, CUDAGraphMode.FULL)
    x = torch.ones(8)
    with torch.inference_mode():
        device.streams.quota = 0
        with step(8), pytest.raises(RuntimeError, match="207008"):
            wrapper(x)
        device.streams.quota = 1
        with step(8), pytest.raises(RuntimeError, match="already recording to mempool_id"):
            wrapper(x)
        FirstRunnerSeam(SimpleNamespace()).change_pool()
        with step(8):
            wrapper(x)
            assert wrapper(x).tolist() == [2.0] * 8


def test_it_looks_like_its_runnable() -> None:
    model = Doubler()
    wrapper = ACLGraphWrapper(model, CONFIG, CUDAGraphMode.FULL)
    assert wrapper.name == "doubler"
    assert wrapper.unwrap() is model
    assert wrapper in _acl_graph_wrappers
    with pytest.raises(AttributeError, match="absent"):
        _ = wrapper.absent


def test_mode_none_wraps_nothing() -> None:
    with pytest.raises(ValueError, match="FULL or PIECEWISE"):
        ACLGraphWrapper(Doubler(), CONFIG, CUDAGraphMode.NONE)


def test_debugging_finds_moved_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    wrapper = ACLGraphWrapper(Doubler(), CONFIG, CUDAGraphMode.FULL)
    x, other = torch.ones(4), torch.ones(4)
    with torch.inference_mode(), step(4):
        wrapper(x)
        wrapper(x)
        with pytest.raises(RuntimeError, match="Input addresses"):
            wrapper(other)
