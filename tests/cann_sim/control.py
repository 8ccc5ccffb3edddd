"""The simulated device's own switches, for tests in the process that uses it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

NO_QUOTA = 2048
"""Streams of a real device."""


@cache
def library() -> ctypes.CDLL:
    """The library that stands in for CANN; torch_npu has loaded it already."""
    cdll = ctypes.CDLL("libascendcl.so")
    cdll.cann_sim_streams_taken.restype = ctypes.c_int64
    cdll.cann_sim_set_stream_quota.argtypes = [ctypes.c_int64]
    cdll.cann_sim_launched.restype = ctypes.c_char_p
    return cdll


def library_path() -> str:
    """Where that library is."""
    library()
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return next(line.split()[-1] for line in maps if line.rstrip().endswith("/libascendcl.so"))


def streams_taken(device: int = 0) -> int:
    """Streams that exist on ``device`` and streams that its graphs hold."""
    return int(library().cann_sim_streams_taken(device))


def launched() -> set[str]:
    """Names of all that was launched on a stream so far: operators, copies, collectives."""
    return set(library().cann_sim_launched().decode().split())


@contextmanager
def streams_left(count: int, device: int = 0) -> Iterator[None]:
    """Leave room for ``count`` more streams while it lasts."""
    library().cann_sim_set_stream_quota(streams_taken(device) + count)
    try:
        yield
    finally:
        library().cann_sim_set_stream_quota(NO_QUOTA)


@contextmanager
def faults(script: str) -> Iterator[None]:
    """Let calls fail while it lasts: ``CALL@NUMBER=CODE`` entries, separated by semicolons, counted from here on."""
    library().cann_sim_set_faults(script.encode())
    try:
        yield
    finally:
        library().cann_sim_set_faults(b"")
