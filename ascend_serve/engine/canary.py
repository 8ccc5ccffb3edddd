"""The canary: what a fixed eager batch computes before capture must be reproduced bit for bit before serving.

A failed capture may leave a process that runs on and computes wrong numbers. Dummy runs write no KV cache (vLLM fills
the slot mapping with -1), so the same batch gives the same bits as long as device, weights and collectives are sound.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import torch


class Canary:
    """What one rank computes of a fixed batch, then and now. All ranks do it together: it does collectives.

    Args:
        batch: Computes the batch.
    """

    def __init__(self, batch: Callable[[], Iterable[torch.Tensor]]) -> None:
        self._batch = batch
        self._expected = ""

    def take(self) -> None:
        """Note what this process computes now."""
        self._expected = _digest(self._batch())

    def holds(self) -> bool:
        """Whether this process still computes the same bits."""
        return _digest(self._batch()) == self._expected


def _digest(tensors: Iterable[torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
