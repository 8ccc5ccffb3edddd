"""How long tests wait for what has to come."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_SECONDS = 1500.0
"""Fifty times what a start takes on two quiet cores: no busy machine decides a test. Pytest's own timeout is longer, so
that what is waited for in vain is named."""


def wait_until(holds: Callable[[], bool], pause: float = 1.0) -> bool:
    """Look every ``pause`` seconds until ``holds`` does or patience ends, and tell whether it does."""
    late = time.monotonic() + PATIENCE_SECONDS
    while not (answer := holds()) and time.monotonic() < late:
        time.sleep(pause)
    return answer
