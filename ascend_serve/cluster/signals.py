"""Signals that end a process, and what Ray makes of them."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a process to end: Ctrl-C, ``kill`` and Kubernetes, a terminal that is closed."""

_end_asked = threading.Event()


def note_end_asked() -> None:
    """Take note, once and for all, that a signal asked this process to end."""
    _end_asked.set()


def is_end_asked() -> bool:
    """Whether a signal has asked this process to end, so that what fails from then on is no failure.

    The exit that a handler raises comes out of whatever it interrupts, which may make another error of it, as pydantic
    2.14 does where it builds a model.
    """
    return _end_asked.is_set()


@contextlib.contextmanager
def own_signals() -> Iterator[None]:
    """Let ``ray.init`` run in the block without taking over the signals of this process.

    Ray 2.60 replaces the handler of SIGTERM, first by one of Python, then by its core's, which dumps the stack and
    aborts. What it starts does not get SIGHUP: a terminal that is closed sends it to all of them at once, and then
    nothing could be finished.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        with _handlers_kept():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextlib.contextmanager
def shielded_from_signals() -> Iterator[None]:
    """Ignore what asks this process to end: a second Ctrl-C must not cut short the cleaning up after the first.

    Outside of the main thread, where Python delivers no signals, nothing needs to be done.
    """
    with _handlers_kept():
        if _in_main_thread():
            for number in ENDING:
                signal.signal(number, signal.SIG_IGN)
        yield


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Have the handlers after the block that there were before it; only the main thread may set any."""
    if not _in_main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            # ``None`` stands for a handler that was not set by Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
