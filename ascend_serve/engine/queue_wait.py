"""Waiting for messages between the engine core and its workers without taking a core that others need.

vLLM's readers spin for a second after each message (``SpinCondition``, 0.23.0 and 0.32.0), which is right where every
process has a core of its own. Elsewhere they take it from the kernels, the scheduler and the clients' streams.
"""

from __future__ import annotations

import os
import time
from typing import Any

from ascend_serve.engine.expected import expected

_LOOK_SECONDS = 1e-4
"""How often a reader looks that expects a message.

It does not wait for notifications: each step sends two messages, and the writer drops a notification that follows
another within a millisecond (libzmq's throttled commands with a high water mark of 1).
"""


def spare_cores(queue: Any, ranks_here: int) -> None:
    """Let the reader of ``queue`` sleep while it waits, where ranks and what serves them outnumber the cores."""
    condition = expected(queue, "_spin_condition")  # None where writer and reader are on different nodes
    if condition is not None and condition.is_reader and has_few_cores(ranks_here):
        condition.wait = _Sleep(condition)


def has_few_cores(ranks_here: int) -> bool:
    """Whether what runs beside the ranks may find no core free, and yet has one that no rank computes on.

    Where ranks compute on every core, their collectives spin on it anyway, and one that sleeps keeps its peers waiting.
    """
    return ranks_here < len(os.sched_getaffinity(0)) < 2 * ranks_here + 2


class _Sleep:
    def __init__(self, condition: Any) -> None:
        self._condition = condition
        self._wait = condition.wait
        self._recent_seconds = condition.busy_loop_s
        condition.busy_loop_s = 0.0

    def __call__(self, timeout_ms: int | None = None) -> None:
        if time.monotonic() - self._condition.last_read < self._recent_seconds:
            time.sleep(_LOOK_SECONDS)
        else:
            self._wait(timeout_ms=timeout_ms)
