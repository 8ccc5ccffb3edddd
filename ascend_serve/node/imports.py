"""Imports at their cheapest, for processes that import vLLM.

The modules of a worker take 3.8 s (vLLM 0.32.0 on a CPU, Python 3.11); with what is left out here they take 6.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterator
from contextlib import contextmanager

_SLOTS = 66_000
"""Of one frame, of eight bytes each: just more than half a MiB, for which Python takes a block of one MiB."""


def import_at_once(*modules: str) -> None:
    """Import modules without looking for garbage, and with all frames of that in one block of memory.

    Python (3.11 to 3.13) has its frames in blocks of 16 KiB, takes one from the system when a call does not fit into
    the last, and gives it back when that call returns. Imports are calls in calls: vLLM's did so 51,000 times, a tenth
    of their time. Behind a frame that is larger than that all others have room in its block.
    """

    def import_all() -> None:
        with uncollected():
            for module in modules:
                importlib.import_module(module)

    import_all.__code__ = import_all.__code__.replace(co_stacksize=_SLOTS)
    import_all()


@contextmanager
def uncollected() -> Iterator[None]:
    """Import without looking for garbage, then and later: what imports make is used as long as the process lasts.

    Of vLLM's imports on a CPU (0.32.0, 5,800 modules, a million objects) Python's collector takes a quarter, 1.4 of
    6.0 s, since it looks at all that is there again and again. What it would have found is 14 MiB of 430.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
