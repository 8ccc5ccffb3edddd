"""A rank that stands still tells where, though its main loop cannot."""

from __future__ import annotations

import faulthandler
import re
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

_LOOK_SECONDS = 0.5
_INNERMOST = r'hread 0x0*{thread:x} .*\n  File "(.*)", line (\d+) in (.*)'
"""The innermost call of a thread in the output of ``faulthandler``."""


class StandstillWatch:
    """Waits beside the main loop for heartbeats, and tells when they stay away.

    Args:
        tell: Takes where the main loop stands; empty when it goes on.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._main = threading.get_ident()
        self._last = time.monotonic()
        self._patience = 0.0
        self._told = False
        threading.Thread(target=self._watch, daemon=True, name="StandstillWatch").start()

    def beat(self, patience: float) -> None:
        """Take note that the main loop goes on; to be called by it.

        Args:
            patience: Seconds until the next heartbeat is missed.
        """
        self._last, self._patience = time.monotonic(), patience
        if self._told:
            self._told = False
            self._tell("")

    def _watch(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            if not self._told and 0.0 < self._patience < time.monotonic() - self._last:
                self._told = True
                self._tell(self._place())

    def _place(self) -> str:
        with tempfile.NamedTemporaryFile() as file:
            faulthandler.dump_traceback(file)
            stacks = Path(file.name).read_text()
        found = re.search(_INNERMOST.format(thread=self._main), stacks)
        return "at an unknown place" if found is None else f"in {found[3]} ({found[1]}:{found[2]})"
