"""The lifetime of a command that starts processes: however it ends, none of them is left."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from ascend_serve.cli.output import print_error, surviving_output
from ascend_serve.cluster.processes import adopt_orphans, end_descendants
from ascend_serve.cluster.signals import note_end_asked, shielded_from_signals
from ascend_serve.errors import AscendServeError

_SIGNALLED = 128
"""What shells add to the number of the signal that ended a command."""


class Ending:
    """Ends this process for the first signal that asks for it; those that follow do not cut the cleaning up short."""

    def __init__(self) -> None:
        self._number: int | None = None
        self._armed = True

    @property
    def exit_code(self) -> int | None:
        """What the process ends with, whatever comes of the cleaning up; ``None`` before a signal came."""
        return None if self._number is None else _SIGNALLED + self._number

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        # The shell sends it as well as the kernel; the second one is no request to hurry.
        hung_up_before = self._number == number == signal.SIGHUP
        self._number = self._number or number
        note_end_asked()
        if self._armed and not hung_up_before:
            self._armed = False
            sys.exit(self.exit_code)

    @contextlib.contextmanager
    def hurried(self) -> Iterator[None]:
        """Let one more signal end the block."""
        self._armed = True
        try:
            yield
        finally:
            self._armed = self._number is None


@contextlib.contextmanager
def owned_processes() -> Iterator[Ending]:
    """End all processes below this one at the end of the block; Ctrl-C, SIGTERM and SIGHUP end the block.

    What is printed in the block goes nowhere once its terminal or its reader is gone.
    """
    adopt_orphans()
    ending = Ending()
    signal.signal(signal.SIGTERM, ending)
    # A shell that starts us in the background has us ignore Ctrl-C; whoever sends it means it.
    signal.signal(signal.SIGINT, ending)
    # Under nohup the terminal may go.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, ending)
    with surviving_output():
        try:
            with _none_left():
                yield ending
        except BaseException as error:
            if ending.exit_code is not None:
                sys.exit(ending.exit_code)
            # While it starts, Ray has a handler of its own that exits with the bare number.
            if isinstance(error, SystemExit) and error.code == signal.SIGTERM:
                sys.exit(_SIGNALLED + signal.SIGTERM)
            raise


@contextlib.contextmanager
def _none_left() -> Iterator[None]:
    try:
        yield
    finally:
        with shielded_from_signals():
            end_descendants()


def end_at_once(error: AscendServeError) -> NoReturn:
    """End this process for ``error`` and all below it, from any thread, whatever the others wait for."""
    print_error(error)
    end_descendants()
    sys.stderr.flush()
    os._exit(error.exit_code)
