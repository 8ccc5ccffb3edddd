"""What vLLM's model runner does with CUDA's events and streams is done on the emulated device."""

from __future__ import annotations

import pytest
import torch

from ascend_serve.emulated.clock import DeviceEvent, Stream
from ascend_serve.emulated.model_runner import _stand_in_for_cuda


def test_events_and_streams_of_cuda_are_those_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Event", "Stream", "current_stream", "stream"):
        monkeypatch.setattr(torch.cuda, name, getattr(torch.cuda, name))
    _stand_in_for_cuda()
    assert isinstance(torch.cuda.Event(enable_timing=False), DeviceEvent)
    assert isinstance(torch.cuda.Stream(), Stream)
