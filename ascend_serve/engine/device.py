"""What a worker can ask of its device, emulated or real."""

from __future__ import annotations

import torch
from vllm.platforms import current_platform

from ascend_serve.capture.messages import Phase


def scripted_fault(phase: Phase) -> None:
    """Let a scripted fault of the emulated NPU strike; the real device brings its own."""
    strike = getattr(current_platform, "scripted_fault", None)
    if strike is not None:
        strike(phase.value)


def streams_left() -> int | None:
    """Streams that graphs can still take, or ``None`` where the device does not tell, as with torch_npu 2.10."""
    count = getattr(current_platform, "streams_left", None)
    return None if count is None else int(count())


def free_memory() -> int | None:
    """Bytes free on this NPU, or ``None`` where there is none (torch_npu adds ``torch.npu``)."""
    npu = getattr(torch, "npu", None)
    return None if npu is None else int(npu.mem_get_info()[0])
