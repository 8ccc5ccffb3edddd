"""What a worker asks of its device when the device is not an emulated one."""

from __future__ import annotations

import pytest

from ascend_serve.capture.messages import Phase
from ascend_serve.engine import npu


class NPUPlatform:
    """A platform that complains of every question that it cannot answer, as vLLM's do."""

    def __getattr__(self, name: str) -> None:
        raise AssertionError(f"Current platform npu does not have '{name}' attribute.")


def test_a_platform_is_not_asked_for_what_only_the_emulated_one_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npu, "current_platform", NPUPlatform())
    assert npu.streams_left() is None
    npu.scripted_fault(Phase.JOIN)
