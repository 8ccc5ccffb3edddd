"""What the configuration asks of a capture group, read from vLLM's resolved configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ascend_serve.capture.deadlines import Deadlines, default_deadlines
from ascend_serve.engine.group_settings import GroupSettings
from ascend_serve.engine.xlite import ACLGRAPH_MODE, is_loaded
from ascend_serve.graph.default_lists import vllm_sizes
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import GraphRequest
from ascend_serve.graph.sizes import MAX_CAPTURE_SIZE

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def graph_request(vllm_config: VllmConfig, settings: GroupSettings) -> GraphRequest:
    """Build the request of the whole group; equal in every engine of a data-parallel group."""
    eager = vllm_config.model_config.enforce_eager and not is_loaded(vllm_config)
    return GraphRequest(
        runtime=RuntimeName.EAGER if eager else settings.runtime,
        mode=GraphMode.NONE if eager else _mode(vllm_config),
        capture_sizes=requested_sizes(vllm_config, settings),
        on_failure=settings.on_failure,
        max_num_seqs=vllm_config.scheduler_config.max_num_seqs,
        decode_query_len=1 + _speculative_tokens(vllm_config),
        lora_cases=_lora_cases(vllm_config),
        weights=settings.weights,
    )


def _mode(vllm_config: VllmConfig) -> GraphMode:
    """The mode of ACLGraph; with Xlite the one that the group would fall back to."""
    if is_loaded(vllm_config):
        return ACLGRAPH_MODE
    return GraphMode(vllm_config.compilation_config.cudagraph_mode.name)


def requested_sizes(vllm_config: VllmConfig, settings: GroupSettings) -> tuple[int, ...]:
    """Candidate sizes, ascending, in tokens; where Xlite leaves vLLM without any, the ones to fall back to."""
    sizes = tuple(sorted(vllm_config.compilation_config.cudagraph_capture_sizes or ()))
    if sizes or not is_loaded(vllm_config):
        return sizes
    reach = vllm_config.scheduler_config.max_num_seqs * (1 + _speculative_tokens(vllm_config))
    return settings.capture_sizes or tuple(vllm_sizes(min(reach, MAX_CAPTURE_SIZE)))


def capture_deadlines(vllm_config: VllmConfig, settings: GroupSettings) -> Deadlines:
    """Derive the deadlines of the group from the size of the model's weights on disk and the user's settings."""
    weights = sum(file.stat().st_size for file in Path(vllm_config.model_config.model).glob("*.safetensors"))
    return default_deadlines(
        weights // vllm_config.parallel_config.world_size,
        static_kernel=settings.static_kernel,
        overrides=settings.deadlines,
    )


def _speculative_tokens(vllm_config: VllmConfig) -> int:
    speculative = vllm_config.speculative_config
    return 0 if speculative is None else int(speculative.num_speculative_tokens or 0)


def _lora_cases(vllm_config: VllmConfig) -> tuple[int, ...]:
    """The LoRA cases of ``CudagraphDispatcher._get_lora_cases`` (vLLM 0.23.0 and 0.32.0)."""
    lora = vllm_config.lora_config
    if lora is None:
        return (0,)
    if not vllm_config.compilation_config.cudagraph_specialize_lora:
        return (lora.max_loras + 1,)
    from vllm.lora.utils import get_captured_lora_counts

    return (0, *get_captured_lora_counts(lora.max_loras, lora.specialize_active_lora))
