"""How long the driver waits at each meeting point before it takes a rank for hanging."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

_LOAD_BYTES_PER_SECOND = 100e6
"""Slowest load that is not taken for a hang: weights over a shared network file system."""

_START_SECONDS = 600.0
"""Process start, imports, HCCL set-up, compilation without a cache, memory profiling."""

_PROPOSE_SECONDS = 60.0
"""A proposal only reads what the rank already knows."""

_CAPTURE_SECONDS = 120.0
"""A size takes 0.5 to 2 s; the first one also loads kernels."""

_STATIC_KERNEL_SECONDS = 1800.0
"""Static kernels compile inside the capture of a size: several minutes to tens of minutes, by the vendor's guide."""

_SEAL_SECONDS = 120.0
"""One canary step and a digest."""

_BYTES_PER_SECOND_FORWARD = 10e9
"""A generous bound for what one warm-up step reads of the weights; an NPU's memory is about a hundred times faster."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds for each meeting point.

    Attributes:
        join: Until all ranks have loaded the model and joined.
        propose: Until all ranks have proposed.
        capture: For one graph: until all ranks have arrived, and again until all have warmed it up and captured it.
        seal: Until all ranks have checked their graphs.
    """

    join: float
    propose: float
    capture: float
    seal: float


def default_deadlines(
    rank_weight_bytes: int, *, static_kernel: bool = False, overrides: Mapping[str, float | None] | None = None
) -> Deadlines:
    """Derive the deadlines from what one rank has to load and to run.

    ``join`` is 600 s plus the load of the rank's weights at 100 MB/s; ``capture`` and ``seal`` are 120 s plus reading
    the weights at 10 GB/s; ``capture`` gets 1800 s more where static kernels compile. All are far above what a healthy
    rank needs and below HCCL's own default of 1836 s (but for static kernels), so that the driver decides first.

    Args:
        rank_weight_bytes: Bytes of weights of one rank.
        static_kernel: Whether static kernels compile during capture.
        overrides: What the configuration sets, by name; ``None`` keeps the derived value.
    """
    step = rank_weight_bytes / _BYTES_PER_SECOND_FORWARD
    derived = Deadlines(
        join=_START_SECONDS + rank_weight_bytes / _LOAD_BYTES_PER_SECOND,
        propose=_PROPOSE_SECONDS,
        capture=_CAPTURE_SECONDS + step + (_STATIC_KERNEL_SECONDS if static_kernel else 0.0),
        seal=_SEAL_SECONDS + step,
    )
    return replace(derived, **{name: value for name, value in (overrides or {}).items() if value is not None})
