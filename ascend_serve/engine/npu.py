"""What can be asked of the device, emulated or real: the one seam to what the emulated platform alone has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from vllm.platforms import current_platform

from ascend_serve.capture.messages import Phase


def scripted_fault(phase: Phase) -> None:
    """Let a scripted fault of the emulated NPU strike; the real device brings its own."""
    strike = emulated_method("scripted_fault")
    if strike is not None:
        strike(phase.value)


def streams_left() -> int | None:
    """Streams that graphs can still take, or ``None`` where the device does not tell, as with torch_npu 2.10."""
    count = emulated_method("streams_left")
    return None if count is None else int(count())


def instruction_set() -> str:
    """The instruction set that an emulated NPU computes with; empty on a real one."""
    name = emulated_method("instruction_set")
    return "" if name is None else str(name())


def free_memory() -> int | None:
    """Bytes free on this NPU, or ``None`` where there is none (torch_npu adds ``torch.npu``)."""
    npu = getattr(torch, "npu", None)
    return None if npu is None else int(npu.mem_get_info()[0])


def is_emulated() -> bool:
    """Whether the NPUs of this process are emulated."""
    return emulated_method("scripted_fault") is not None


def emulated_method(name: str) -> Callable[..., Any] | None:
    """A class method that the emulated platform alone has; ``None`` on a real one.

    The type is asked: an instance of vLLM's ``Platform`` answers for every name with ``None``, and 0.23.0 warns
    each time (``Platform.__getattr__``, 0.23.0 and 0.32.0).
    """
    method: Callable[..., Any] | None = getattr(type(current_platform), name, None)
    return method
