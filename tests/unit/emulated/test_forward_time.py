"""Forward passes are work of the emulated device, as are the events and streams that vLLM's model runners have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.config import CompilationMode, CUDAGraphMode

from ascend_serve.emulated import device as devices
from ascend_serve.emulated import forward_time
from ascend_serve.emulated.clock import DeviceEvent, DeviceTime, Stream
from ascend_serve.emulated.device import EmulatedDevice, current_device
from ascend_serve.emulated.forward_time import ForwardTime, padded_tokens, stand_in_for_cuda
from tests.unit.emulated.host import Host

LAYERS = 2


@pytest.fixture
def host() -> Host:
    return Host(time=0.0)


def forwards(host: Host, monkeypatch: pytest.MonkeyPatch, stages: int = 1, **milliseconds: float) -> ForwardTime:
    """Of a device that takes as long as is said."""
    device = EmulatedDevice(time=DeviceTime.of(milliseconds), clock=host.clock())
    monkeypatch.setattr(devices, "_device", device)
    monkeypatch.setattr(forward_time, "get_pp_group", lambda: SimpleNamespace(world_size=stages))
    config: Any = SimpleNamespace(
        compilation_config=SimpleNamespace(mode=CompilationMode.NONE),
        model_config=SimpleNamespace(get_num_layers=lambda parallel: LAYERS),
        parallel_config=None,
    )
    return ForwardTime(config)


def test_a_device_without_times_holds_up_nobody(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    time = forwards(host, monkeypatch)
    with time.forward(8, CUDAGraphMode.NONE):
        pass
    assert host.time == 0.0
    assert current_device().clock.free_at == 0.0


def test_what_is_no_step_takes_no_time(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    time = forwards(host, monkeypatch, fixed=10, launch=1)
    time.is_step = False
    with time.forward(8, CUDAGraphMode.FULL):
        pass
    assert (host.time, current_device().clock.free_at) == (0.0, 0.0)


def test_a_pass_queues_up_on_the_device(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    time = forwards(host, monkeypatch, fixed=10, per_token=1)
    for _ in range(2):
        with time.forward(8, CUDAGraphMode.FULL):
            pass
    assert host.time == 0.0
    assert current_device().clock.free_at == pytest.approx(0.036)


@pytest.mark.parametrize(
    ("mode", "launches"),
    [
        pytest.param(CUDAGraphMode.FULL, 1, id="one graph"),
        pytest.param(CUDAGraphMode.PIECEWISE, 3 * LAYERS + 1, id="pieces"),
        pytest.param(CUDAGraphMode.NONE, 2, id="operators, as they were counted"),
    ],
)
def test_the_host_is_held_up_by_what_it_launches(
    mode: CUDAGraphMode, launches: int, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = forwards(host, monkeypatch, launch=1)
    with time.forward(8, CUDAGraphMode.NONE):
        torch.add(torch.ones(2), 1.0)
    before = host.time
    with time.forward(8, mode):
        pass
    assert host.time - before == pytest.approx(launches * 1e-3)


def test_another_stage_gets_what_is_done(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    time = forwards(host, monkeypatch, stages=2, fixed=10)
    with time.forward(8, CUDAGraphMode.FULL):
        pass
    assert host.time == pytest.approx(0.010)


def test_tokens_are_those_of_the_padded_batch() -> None:
    context: Any = SimpleNamespace(batch_descriptor=SimpleNamespace(num_tokens=8))
    assert padded_tokens(context, {"positions": torch.zeros(5)}) == 8
    context.batch_descriptor = None
    assert padded_tokens(context, {"positions": torch.zeros(5)}) == 5
    assert padded_tokens(context, {"input_ids": None, "positions": torch.zeros(3, 5)}) == 5


def test_events_and_streams_of_cuda_are_those_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Event", "Stream", "current_stream", "stream"):
        monkeypatch.setattr(torch.cuda, name, getattr(torch.cuda, name))
    stand_in_for_cuda()
    assert isinstance(torch.cuda.Event(enable_timing=False), DeviceEvent)
    assert isinstance(torch.cuda.Stream(), Stream)
