"""Reading from ranks on other nodes, until the executor ends (vLLM's ``MessageQueue``, 0.23.0 and 0.32.0).

A reader on the node of its writer looks whether its queue is shut down. One on another node waits in its socket, for
ever where the writer is lost, and with it the engine core.
"""

from __future__ import annotations

import math
import time
from typing import Any

from ascend_serve.engine.expected import expected

_LOOK_MILLISECONDS = 500


def end_with_queue(queue: Any) -> None:
    """Let the reader of ``queue`` end when it is shut down, also where its writer is on another node."""
    if expected(queue, "_is_remote_reader"):
        queue.remote_socket = _Socket(queue, expected(queue, "remote_socket"))


class _Socket:
    """A socket that is waited for no longer than its queue lasts."""

    def __init__(self, queue: Any, socket: Any) -> None:
        self._queue = queue
        self._socket = socket

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def poll(self, timeout: int | None = None) -> int:
        """Wait for a message.

        Args:
            timeout: In milliseconds; ``None`` is none.

        Raises:
            RuntimeError: The queue was shut down, in the words of a reader beside its writer.
        """
        end = math.inf if timeout is None else time.monotonic() + timeout / 1000
        while True:
            left = max(0.0, 1000 * (end - time.monotonic()))
            found: int = self._socket.poll(timeout=math.ceil(min(left, _LOOK_MILLISECONDS)))
            if found or left <= _LOOK_MILLISECONDS:
                return found
            if self._queue.shutting_down:
                raise RuntimeError("cancelled")
