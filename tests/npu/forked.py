"""Calls in processes of their own, forked from one that has imported everything and used no NPU."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from tests.patience import PATIENCE_SECONDS

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.npu.member"])


def preload(module: str) -> None:
    """Import ``module`` before the first process is forked, instead of what the decoder's ranks need."""
    _CONTEXT.set_forkserver_preload([module])


class Forked:
    """A process that calls ``body(*args)``; both travel to it, so they have to be picklable."""

    def __init__(self, body: Callable[..., Any], *args: Any) -> None:
        self._pipe, told = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(target=_call, args=(told, body, args))
        self._process.start()
        told.close()

    def result(self, is_over: Callable[[], bool] = lambda: False, patience: float = PATIENCE_SECONDS) -> Any:
        """What the call returned, within ``patience`` seconds; ``None`` once ``is_over`` says that nobody waits for it.

        Raises:
            AssertionError: It raised, its process died, or it did not end in time.
        """
        late = time.monotonic() + patience
        while not self._pipe.poll(0.1):
            if is_over():
                return None
            assert time.monotonic() < late, f"no answer after {patience} s"
        try:
            is_well, told = self._pipe.recv()
        except EOFError:
            is_well, told = False, f"its process ended with {self.exit_code()}"
        assert is_well, told
        return told

    def exit_code(self) -> int | None:
        """How the process ended, after it has: minus the signal's number where one did it."""
        self._process.join(PATIENCE_SECONDS)
        return self._process.exitcode

    def kill(self) -> None:
        """End it, whatever it waits for."""
        self._process.kill()
        self._process.join()


def call(body: Callable[..., Any], *args: Any) -> Any:
    """What ``body(*args)`` returns in a process of its own."""
    forked = Forked(body, *args)
    try:
        return forked.result()
    finally:
        forked.kill()


def _call(told: Connection, body: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        told.send((True, body(*args)))
    except BaseException:
        told.send((False, traceback.format_exc()))
    # The device's threads never end.
    os._exit(0)
