"""The streams of one emulated device."""

from __future__ import annotations

from collections.abc import Sequence

from ascend_serve.emulated.device_errors import stream_exhausted
from ascend_serve.errors import ConfigError
from ascend_serve.graph.stream_costs import DEVICE_STREAMS


def quota_of_rank(quota: int | Sequence[int], rank: int) -> int:
    """The quota of ``rank``: the one number for all, or its own.

    Raises:
        ConfigError: There are numbers for other ranks, but none for this one.
    """
    if isinstance(quota, int):
        return quota
    if rank >= len(quota):
        raise ConfigError(
            f"emulated.stream_quota lists {len(quota)} numbers, but there is a rank {rank}.",
            "Give one number for all ranks, or one for each.",
        )
    return quota[rank]


class StreamPool:
    """Streams of one device.

    Args:
        quota: Streams that exist.
        rank: Named in the error text.
    """

    def __init__(self, quota: int = DEVICE_STREAMS, rank: int = 0) -> None:
        if quota < 0:
            raise ValueError(f"a device cannot have {quota} streams")
        self.quota = quota
        self._rank = rank
        self._used = 0

    @property
    def used(self) -> int:
        """Streams held by captured graphs."""
        return self._used

    @property
    def left(self) -> int:
        """Streams that the next captures can take."""
        return self.quota - self._used

    def acquire(self, count: int) -> None:
        """Take ``count`` streams, or none.

        Raises:
            RuntimeError: The device's own error (207008), when fewer are left.
        """
        if count > self.left:
            raise stream_exhausted(self._rank)
        self._used += count

    def release(self, count: int) -> None:
        """Give ``count`` streams back.

        Raises:
            ValueError: More would come back than were taken.
        """
        if count > self._used:
            raise ValueError(f"{count} streams given back, but only {self._used} are taken")
        self._used -= count
