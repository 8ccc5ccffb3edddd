"""Random generators whose last draw can be taken back, as vLLM takes back that of a prompt that is not whole yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

_DRAW = 4
"""What a draw adds to a device's offset, by vLLM's ``GPUModelRunner._bookkeeping_sync`` (0.23.0 and 0.32.0)."""


class RewindableGenerator(torch.Generator):
    """A generator on the CPU, which has no offset of its own: it remembers its state before the last draw instead."""

    _before: torch.Tensor

    @classmethod
    def of(cls, generator: torch.Generator) -> RewindableGenerator:
        """One in the state of ``generator``."""
        made = cls(device=generator.device)
        made.set_state(generator.get_state())
        return made

    def remember(self) -> None:
        """A draw begins: from here it can be taken back."""
        self._before = self.get_state()

    def get_offset(self) -> int:
        """The offset of a generator that has drawn once."""
        return _DRAW

    def set_offset(self, offset: int) -> None:
        """Take the last draw back.

        Raises:
            ValueError: Something else is asked for.
        """
        if offset != 0:
            raise ValueError(f"offset {offset}: only the last draw can be taken back")
        self.set_state(self._before)


def remember_draws(batch: Any, requests: Mapping[str, Any]) -> None:
    """Before requests sample: make their generators such that vLLM can take the draw back.

    Args:
        batch: vLLM's ``InputBatch``.
        requests: What the model runner knows of each request, by its name: ``CachedRequestState``.
    """
    for index, generator in batch.generators.items():
        if isinstance(generator, RewindableGenerator):
            generator.remember()
        else:
            exchanged = RewindableGenerator.of(generator)
            exchanged.remember()
            # A request that is preempted comes back into the batch with what is kept of it.
            batch.generators[index] = requests[batch.req_ids[index]].generator = exchanged
