"""The processes below this one: keep hold of orphans, and end all of them."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable

import psutil

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


def _signal_descendants(signal_process: Callable[[psutil.Process], None], grace: float) -> bool:
    found = psutil.Process().children(recursive=True)
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            signal_process(process)
    psutil.wait_procs(found, timeout=grace)
    return bool(found)
