"""What the streams of a graph depend on, read from vLLM's resolved configuration."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ascend_serve.graph.stream_costs import StreamLayout, expansion_mode

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def stream_layout(vllm_config: VllmConfig) -> StreamLayout:
    """Describe this rank's part of the model for ``graph.streams`` (vLLM 0.23.0 and 0.32.0)."""
    model, parallel = vllm_config.model_config, vllm_config.parallel_config
    speculative = vllm_config.speculative_config
    draft = None if speculative is None else speculative.draft_model_config
    return StreamLayout(
        num_layers=model.get_num_layers(parallel),
        num_draft_layers=0 if draft is None else draft.get_num_layers(parallel),
        tensor_parallel_size=parallel.tensor_parallel_size,
        data_parallel_size=parallel.data_parallel_size,
        prefill_context_parallel_size=parallel.prefill_context_parallel_size,
        decode_context_parallel_size=parallel.decode_context_parallel_size,
        expert_parallel=parallel.enable_expert_parallel,
        moe=model.is_moe,
        expansion_mode=expansion_mode(os.environ),
    )
