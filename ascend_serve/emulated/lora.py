"""LoRA on the emulated NPU, in operators that a capture takes. Checked against vLLM 0.32.0 (``PunicaWrapperCPU``).

vLLM's own operators for a CPU read back to the host how many tokens each adapter has, which no capture takes. They also
give tokens without an adapter the weights of the last one, where a batch has both, and end the engine where logits are
asked of other rows than one for each request, as those of a prompt are. Here each adapter is multiplied with all rows,
and counts in its own: the shapes depend on no value.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

NO_ADAPTER = -1
"""What vLLM writes for rows without an adapter."""


class EmulatedNPUPunicaWrapper(PunicaWrapperCPU):
    """Adds to each row what its adapter makes of it."""

    def update_metadata(
        self, mapping: Any, lora_index_to_id: list[int | None], max_loras: int, vocab_size: int, **options: Any
    ) -> None:
        """Note the adapters of a step; rows that pad its batch have none."""
        self._update_base_metadata(mapping, lora_index_to_id, max_loras, vocab_size)
        self._token_lora_indices[len(mapping.index_mapping) :].fill_(NO_ADAPTER)

    def add_lora_embedding(
        self, y: torch.Tensor, x: torch.Tensor, lora_b_stacked: torch.Tensor, add_inputs: bool = True, **options: Any
    ) -> None:
        """Add the second half of an embedding's adapters to ``y``."""
        self._apply_expand(y, x, lora_b_stacked, 0, y.size(-1), add_inputs=add_inputs)

    def add_lora_logits(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        scale: float,
        *,
        buffer: torch.Tensor | None = None,
        **options: Any,
    ) -> None:
        """Add the adapters of the output layer to the logits ``y``."""
        indices = self._logits_indices(x.size(0))
        shrunk = scale * product(x, lora_a_stacked, indices)
        added = product(shrunk, lora_b_stacked, indices)
        y[:, : added.size(-1)] += added

    def _logits_indices(self, rows: int) -> torch.Tensor:
        """The adapter of each row of logits: those of requests or, of another number, of one request's prompt.

        vLLM does not say whose prompt it is, so adapters of the output layer count there where all requests of the step
        have the same one.
        """
        indices = self.sampler_indices
        if indices.size(0) == rows:
            return indices
        same = bool((indices == indices[:1]).all()) and indices.size(0) > 0
        return indices.new_full((rows,), int(indices[0]) if same else NO_ADAPTER)

    def _apply_shrink(self, y: torch.Tensor, x: torch.Tensor, w_t_all: torch.Tensor, scale: float) -> None:
        shrunk = scale * product(x, w_t_all, self._token_lora_indices[: x.size(0)])
        y[:, : shrunk.size(-1)] = shrunk

    def _apply_expand(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        w_t_all: torch.Tensor,
        y_offset: int,
        y_slice_size: int,
        *,
        add_inputs: bool = True,
    ) -> None:
        expanded = product(x, w_t_all, self._token_lora_indices[: x.size(0)]).to(y.dtype)
        part = y[:, y_offset : y_offset + min(y_slice_size, expanded.size(-1))]
        if add_inputs:
            part += expanded[:, : part.size(-1)]
        else:
            part.copy_(expanded[:, : part.size(-1)])


def product(x: torch.Tensor, stacked: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Multiply each row with the weights of its adapter.

    Args:
        x: Of shape ``(rows, inputs)``.
        stacked: Weights of all adapters, of shape ``(adapters, outputs, inputs)``, with a dimension of 1 or without.
        indices: The adapter of each row; `NO_ADAPTER` makes zeros.

    Returns:
        In float32, as vLLM computes them, of shape ``(rows, outputs)``.
    """
    x, weights = x.float(), stacked.flatten(0, -3).float()
    total = x.new_zeros(x.size(0), weights.size(-2))
    for adapter in range(weights.size(0)):
        total += torch.where((indices == adapter).unsqueeze(1), x @ weights[adapter].t(), 0.0)
    return total
