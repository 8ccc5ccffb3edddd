"""The memory that graphs of one pool share."""

from __future__ import annotations

from collections.abc import Mapping

import torch

ALIGNMENT = 64
"""Bytes. Torch's own alignment on a CPU: kernels that sum by alignment then sum as they do in eager mode."""


class MemoryPool:
    """Memory for the intermediate results of graphs that never replay at the same time.

    Graphs that are captured largest first, as vLLM does, all fit into what the first one took.
    """

    def __init__(self) -> None:
        self._storage = torch.UntypedStorage(0)

    def storage(self, nbytes: int) -> torch.UntypedStorage:
        """Storage of at least ``nbytes`` bytes. It stays valid for as long as the caller holds it."""
        if nbytes > self._storage.nbytes():
            self._storage = torch.UntypedStorage(nbytes)
        return self._storage


def place(sizes: Mapping[int, int], intervals: Mapping[int, tuple[int, int]]) -> tuple[dict[int, int], int]:
    """Give buffers offsets so that none overlap while both are in use.

    Greedy by size, each at the lowest free offset (Pisarchyk and Lee, "Efficient memory management for deep neural net
    inference", 2020).

    Args:
        sizes: Bytes per buffer.
        intervals: First and last step that uses each buffer, both inclusive.

    Returns:
        Offset per buffer in bytes, multiples of ``ALIGNMENT``, and the bytes needed in all.
    """
    placed: list[tuple[int, int, int]] = []
    offsets: dict[int, int] = {}
    for index in sorted(sizes, key=lambda index: (-sizes[index], index)):
        size = -(-sizes[index] // ALIGNMENT) * ALIGNMENT
        first, last = intervals[index]
        offset = 0
        for start, end, other in sorted(placed):
            overlaps = intervals[other][0] <= last and first <= intervals[other][1]
            if overlaps and start < offset + size and offset < end:
                offset = end
        offsets[index] = offset
        placed.append((offset, offset + size, index))
    return offsets, max((end for _, end, _ in placed), default=0)
