"""vLLM's CPU attention, declared fit for full graphs.

It is one opaque operator that finds the step's metadata in the forward context, so a replayed graph always works on the
metadata of its own step: what vllm-ascend's update of graph tasks does on a device.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from vllm.v1.attention.backend import AttentionCGSupport, AttentionType
from vllm.v1.attention.backends.cpu_attn import (
    CPUAttentionBackend,
    CPUAttentionBackendImpl,
    CPUAttentionMetadataBuilder,
)


class EmulatedNPUAttentionMetadataBuilder(CPUAttentionMetadataBuilder):
    """Declares what vllm-ascend's ``attention_v1`` declares: full graphs for mixed batches too."""

    _cudagraph_support: ClassVar[AttentionCGSupport] = AttentionCGSupport.ALWAYS


class EmulatedNPUAttentionImpl(CPUAttentionBackendImpl):
    """vLLM's CPU attention for batches that are padded.

    Encoders write keys to a cache of the step, and vLLM goes by their rows: past those of the batch it would write
    wherever the memory behind its slots says.
    """

    def forward(
        self,
        layer: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *cache_and_metadata: Any,
        **options: Any,
    ) -> torch.Tensor:
        """Attend; rows that pad the batch are left out of an encoder's keys."""
        _, metadata = cache_and_metadata
        if metadata is not None and self.attn_type in (AttentionType.ENCODER, AttentionType.ENCODER_ONLY):
            key, value = key[: metadata.num_actual_tokens], value[: metadata.num_actual_tokens]
        return super().forward(layer, query, key, value, *cache_and_metadata, **options)


class EmulatedNPUAttentionBackend(CPUAttentionBackend):
    """vLLM's CPU attention with a metadata builder that supports graphs."""

    @staticmethod
    def get_impl_cls() -> type[CPUAttentionBackendImpl]:
        """Attention for padded batches."""
        return EmulatedNPUAttentionImpl

    @staticmethod
    def get_builder_cls() -> type[CPUAttentionMetadataBuilder]:
        """The builder that declares graph support."""
        return EmulatedNPUAttentionMetadataBuilder
