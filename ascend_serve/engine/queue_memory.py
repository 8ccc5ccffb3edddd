"""The shared memory of vLLM's message queues, which outlives a process that is killed as long as it has a name.

Ray ends what a worker process has started with it, Python's resource tracker included, so nobody would remove the name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from vllm.distributed.device_communicators.shm_broadcast import MessageQueue

from ascend_serve.engine.expected import expected


def forget_names() -> None:
    """Have queues of this process lose their name as soon as all readers have them open, which keeps the memory."""
    if not hasattr(MessageQueue.wait_until_ready, "__wrapped__"):
        MessageQueue.wait_until_ready = _forgetting(MessageQueue.wait_until_ready)


def _forgetting(wait_until_ready: Callable[[Any], None]) -> Callable[[Any], None]:
    @wraps(wait_until_ready)
    def wait(queue: Any) -> None:
        wait_until_ready(queue)
        if expected(queue, "_is_writer"):
            _forget_name(expected(queue, "buffer"))

    return wait


def _forget_name(buffer: Any) -> None:
    """Remove the name of a buffer (``ShmRingBuffer``); there is none where all readers are on other nodes."""
    if buffer is not None and buffer.is_creator:
        buffer.shared_memory.unlink()
        # Else vLLM would remove it once more.
        buffer.is_creator = False
