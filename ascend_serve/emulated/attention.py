"""vLLM's CPU attention, declared fit for full graphs.

It is one opaque operator that finds the step's metadata in the forward context, so a replayed graph always works on the
metadata of its own step: what vllm-ascend's update of graph tasks does on a device.
"""

from __future__ import annotations

from typing import ClassVar

from vllm.v1.attention.backend import AttentionCGSupport
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend, CPUAttentionMetadataBuilder


class EmulatedNPUAttentionMetadataBuilder(CPUAttentionMetadataBuilder):
    """Declares what vllm-ascend's ``attention_v1`` declares: full graphs for mixed batches too."""

    _cudagraph_support: ClassVar[AttentionCGSupport] = AttentionCGSupport.ALWAYS


class EmulatedNPUAttentionBackend(CPUAttentionBackend):
    """vLLM's CPU attention with a metadata builder that supports graphs."""

    @staticmethod
    def get_builder_cls() -> type[CPUAttentionMetadataBuilder]:
        """The builder that declares graph support."""
        return EmulatedNPUAttentionMetadataBuilder
