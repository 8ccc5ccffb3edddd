"""Stream budget: how many graphs a device has room for.

The prior is the heuristic that vllm-ascend used up to mid 2026 (``update_aclgraph_sizes``), which is conservative on
newer CANN. It is replaced by what the device itself said as soon as that is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ascend_serve.graph.modes import GraphMode

DEVICE_STREAMS = 2048
"""Streams of a whole NPU."""

HELD_BACK_STREAMS = 248
"""Streams that vllm-ascend keeps from graphs, for what else runs on the device."""

FFTS_STREAMS_PER_GROUP = 40
"""Streams that a communication group of more than one rank takes outside of graphs, without AIV."""

CONTEXT_PARALLEL_STREAMS = 100
"""Streams that each of prefill and decode context parallelism takes outside of graphs, without AIV."""


EXPANSION_MODE = "HCCL_OP_EXPANSION_MODE"
"""The variable that tells HCCL where to unfold collectives."""


class ExpansionMode(StrEnum):
    """Where HCCL unfolds collectives: the values of ``HCCL_OP_EXPANSION_MODE``. Unset is FFTS+."""

    AIV = "AIV"
    AI_CPU = "AI_CPU"
    HOST = "HOST"


def expansion_mode(environment: Mapping[str, str]) -> ExpansionMode | None:
    """The expansion mode that ``environment`` sets; ``None`` when it sets none, or one that HCCL does not know."""
    value = environment.get(EXPANSION_MODE, "")
    return ExpansionMode(value) if value in ExpansionMode.__members__.values() else None


@dataclass(frozen=True, slots=True)
class StreamLayout:
    """What the streams of a graph depend on.

    Attributes:
        num_layers: Decoder layers that a rank runs: of its pipeline stage.
        num_draft_layers: Layers of the draft model; 0 without one.
        tensor_parallel_size: Ranks that share each layer.
        data_parallel_size: Engines in the capture group.
        prefill_context_parallel_size: Ranks that share the prefill's context.
        decode_context_parallel_size: Ranks that share the decode's context.
        expert_parallel: Whether experts are spread over ranks.
        shared_expert_overlap: Whether shared experts run on a stream of their own.
        moe: Whether the model is a mixture of experts.
        expansion_mode: ``HCCL_OP_EXPANSION_MODE``; ``None`` when unset.
    """

    num_layers: int
    num_draft_layers: int = 0
    tensor_parallel_size: int = 1
    data_parallel_size: int = 1
    prefill_context_parallel_size: int = 1
    decode_context_parallel_size: int = 1
    expert_parallel: bool = False
    shared_expert_overlap: bool = False
    moe: bool = False
    expansion_mode: ExpansionMode | None = None

    @property
    def pieces(self) -> int:
        """Pieces that a piecewise graph consists of: one around each attention, and those of the draft model."""
        return self.num_layers + 1 + (self.num_draft_layers + 1 if self.num_draft_layers else 0)

    @property
    def communication_groups(self) -> int:
        """Of data and tensor parallelism, how many have more than one rank."""
        return (self.tensor_parallel_size > 1) + (self.data_parallel_size > 1)


def streams_per_full(layout: StreamLayout) -> int:
    """Streams that one ``FULL`` graph takes: its own, and those of its collectives."""
    groups = layout.communication_groups
    if layout.expansion_mode is not ExpansionMode.AIV:
        return 1 + 2 * groups
    experts_over_data = layout.moe and layout.data_parallel_size > 1
    return 1 + groups + layout.expert_parallel + layout.shared_expert_overlap + experts_over_data


def streams_per_piecewise(layout: StreamLayout) -> int:
    """Streams that all pieces of one ``PIECEWISE`` size take together."""
    return layout.pieces * streams_per_full(layout)


def streams_per_size(layout: StreamLayout, mode: GraphMode) -> int:
    """Streams that one capture size takes in ``mode``: one graph, or one per kind where decode has its own."""
    kinds = {mode.decode_mode, mode.mixed_mode}
    full = streams_per_full(layout) if GraphMode.FULL in kinds else 0
    return full + (streams_per_piecewise(layout) if GraphMode.PIECEWISE in kinds else 0)


def prior_budget(layout: StreamLayout, streams: int = DEVICE_STREAMS - HELD_BACK_STREAMS) -> int:
    """Streams left for graphs, as long as no device has said otherwise.

    Args:
        layout: Model and parallel layout.
        streams: Streams that graphs and collectives outside of graphs share.
    """
    if layout.expansion_mode is ExpansionMode.AIV:
        outside = 0 if layout.moe else streams_per_piecewise(layout)
    else:
        contexts = (layout.prefill_context_parallel_size > 1) + (layout.decode_context_parallel_size > 1)
        outside = FFTS_STREAMS_PER_GROUP * layout.communication_groups + CONTEXT_PARALLEL_STREAMS * contexts
    return max(0, streams - outside)
