"""The processes below this one: keep hold of orphans, and end all of them."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

_SHARED_MEMORY = "/dev/shm/"

_PR_SET_CHILD_SUBREAPER = 36
"""``prctl`` option of Linux: descendants whose parent ends become children of this process."""


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that `end_descendants` still finds them.

    A replica that is killed leaves its engine core behind, which only a subreaper can tell from a stranger's process.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants(grace: float = 5.0) -> None:
    """End all processes below this one, politely first.

    Python's resource trackers ignore the polite signal and end by themselves once the processes whose shared memory
    they watch are gone, so the grace also cleans up ``/dev/shm``.

    Args:
        grace: Seconds between the polite signal and the hard one.
    """
    _signal_descendants(psutil.Process.terminate, grace)
    while _signal_descendants(psutil.Process.kill, grace):
        pass


def shared_memory_of_descendants() -> set[Path]:
    """Files in ``/dev/shm`` that processes below this one have mapped.

    vLLM's workers are ended the hard way and leave theirs behind, a few MiB each time.
    """
    mapped: set[Path] = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            mapped.update(
                Path(region.path) for region in process.memory_maps() if region.path.startswith(_SHARED_MEMORY)
            )
    return mapped


def _signal_descendants(signal_process: Callable[[psutil.Process], None], grace: float) -> bool:
    found = psutil.Process().children(recursive=True)
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            signal_process(process)
    psutil.wait_procs(found, timeout=grace)
    return bool(found)


@contextlib.contextmanager
def shielded_from_signals() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM: a second Ctrl-C must not cut short the cleaning up after the first.

    Outside of the main thread, where Python delivers no signals, nothing needs to be done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, signal.SIG_IGN) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, previous, strict=True):
            signal.signal(number, handler)
