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
from ascend_serve.cluster.signals import shielded_from_signals
from ascend_serve.errors import AscendServeError

_SIGNALLED = 128
"""What shells add to the number of the signal that ended a command."""


@contextlib.contextmanager
def owned_processes() -> Iterator[None]:
    """End all processes below this one at the end of the block; SIGTERM and SIGHUP end the block as Ctrl-C does.

    What is printed in the block goes nowhere once its terminal or its reader is gone.
    """
    adopt_orphans()
    signal.signal(signal.SIGTERM, _end)
    # A shell that starts us in the background has us ignore Ctrl-C; whoever sends it means it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Under nohup the terminal may go.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _end)
    with surviving_output():
        try:
            yield
        except SystemExit as end:
            # While it starts, Ray has a handler of its own that exits with the bare number.
            sys.exit(_SIGNALLED + signal.SIGTERM if end.code == signal.SIGTERM else end.code)
        finally:
            with shielded_from_signals():
                end_descendants()


def end_at_once(error: AscendServeError) -> NoReturn:
    """End this process for ``error`` and all below it, from any thread, whatever the others wait for."""
    print_error(error)
    end_descendants()
    sys.stderr.flush()
    os._exit(error.exit_code)


def _end(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGHUP:
        # The shell sends it as well as the kernel; the second one is no request to hurry.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.exit(_SIGNALLED + number)
