"""Prompts that come together are computed together (vLLM 0.23.0 and 0.32.0).

With async scheduling an engine core queues a second step as soon as it has given the first one out. To an idle engine
requests come one by one even where they were sent as one: the first prompt makes a step alone, its next token would
be queued behind it, and all other prompts would wait for both. So nothing is queued behind the first step of an idle
engine, whose NPUs wait once for the host instead.
"""

from __future__ import annotations

from typing import Any

from vllm.config import VllmConfig
from vllm.v1.engine.core import EngineCore

_vllms_step = EngineCore.step_with_batch_queue


def queue_nothing_behind_first_prompts(vllm_config: VllmConfig) -> None:
    """Let the engine core of this process do so, from now on; a pipeline of ranks wants to be filled instead."""
    if vllm_config.scheduler_config.async_scheduling and vllm_config.parallel_config.pipeline_parallel_size == 1:
        EngineCore.step_with_batch_queue = _step


def _step(core: Any) -> Any:
    steps = core.batch_queue_size
    is_idle = not core.batch_queue and not core.scheduler.running
    try:
        core.batch_queue_size = 1 if is_idle else steps
        return _vllms_step(core)
    finally:
        core.batch_queue_size = steps
