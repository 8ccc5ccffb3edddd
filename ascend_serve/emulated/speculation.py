"""What speculative decoding needs of vLLM's CPU build and gets wrong there. Checked against vLLM 0.32.0."""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.sample import rejection_sampler

EXPAND = "vllm.v1.sample.rejection_sampler.expand_kernel"
"""vLLM's name of the kernel that `expand` stands in for (``register_kernels``)."""


def expand(
    output: torch.Tensor,
    values: torch.Tensor,
    cu_num_tokens: torch.Tensor,
    replace_from: int,
    replace_to: int,
    *_threads: int,
) -> None:
    """Write each request's value to all of its tokens.

    vLLM's own for a CPU writes to a copy unless values are of 64 bits, so that temperatures and top-k of drafts are
    whatever was in memory.

    Args:
        output: One value for each token.
        values: One value for each request.
        cu_num_tokens: Tokens up to and with each request.
        replace_from: A value to replace.
        replace_to: What to replace it by.
        _threads: Tells the kernel of a GPU how many threads to start.
    """
    replaced = values.masked_fill(values == replace_from, replace_to)
    counts = torch.diff(cu_num_tokens, prepend=cu_num_tokens.new_zeros(1))
    output.copy_(replaced.repeat_interleave(counts, output_size=output.size(0)))


def sample_without_drafts() -> None:
    """Let steps in which nothing was drafted be sampled with a top-k, for which vLLM's own has no largest one."""
    apply: Any = rejection_sampler.apply_top_k_top_p

    def apply_top_k_top_p(logits: torch.Tensor, k: torch.Tensor | None, p: torch.Tensor | None) -> torch.Tensor:
        return apply(logits, k, p) if logits.numel() else logits

    rejection_sampler.apply_top_k_top_p = apply_top_k_top_p
