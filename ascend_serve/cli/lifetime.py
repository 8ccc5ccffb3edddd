"""The lifetime of a command that starts processes: however it ends, none of them is left."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from ascend_serve.cluster.processes import (
    adopt_orphans,
    end_descendants,
    shared_memory_of_descendants,
    shielded_from_signals,
)

_TERMINATED = 128 + signal.SIGTERM
"""Exit code after SIGTERM, as shells have it."""


class OwnedProcesses:
    """What the processes of a command leave behind when they are ended the hard way."""

    def __init__(self) -> None:
        self._shared_memory: set[Path] = set()

    def note_shared_memory(self) -> None:
        """Remember the shared memory of the processes that run now, to remove what they leave of it."""
        self._shared_memory |= shared_memory_of_descendants()

    def remove_shared_memory(self) -> None:
        """Remove what is left of the remembered shared memory; its users must have ended."""
        for path in self._shared_memory:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def owned_processes() -> Iterator[OwnedProcesses]:
    """End all processes below this one at the end of the block; SIGTERM ends the block as Ctrl-C does."""
    adopt_orphans()
    signal.signal(signal.SIGTERM, _terminate)
    # A shell that starts us in the background has us ignore Ctrl-C; whoever sends it means it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    owned = OwnedProcesses()
    try:
        yield owned
    except SystemExit as end:
        # Ray replaces the handler by one that exits with the bare number.
        sys.exit(_TERMINATED if end.code == signal.SIGTERM else end.code)
    finally:
        with shielded_from_signals():
            owned.note_shared_memory()
            end_descendants()
            owned.remove_shared_memory()


def _terminate(number: int, frame: FrameType | None) -> None:
    sys.exit(number)
