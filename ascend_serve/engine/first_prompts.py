"""Prompts that come together are computed together (vLLM 0.23.0 and 0.32.0).

With async scheduling an engine core queues a second step as soon as it has given the first one out. To an idle engine
requests come one by one even where they were sent as one: the first prompt makes a step alone, its next token would
be queued behind it, and all other prompts would wait for both. So the first step of an idle engine waits for requests
that were sent at once (`mark_followed`), and nothing is queued behind it: the NPUs wait once for the host instead.
"""

from __future__ import annotations

import queue
from typing import Any

from vllm.config import VllmConfig
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.core import EngineCore

_FOLLOWED = "x-ascend-serve-followed"
"""Among the trace headers of a request behind which the front end has sent another one: the field that vLLM hands on as
it is, and reads nothing from that it does not know."""

_FOLLOWING_SECONDS = 0.002
"""How long a request is waited for that was sent already."""

_vllms_step = EngineCore.step_with_batch_queue


def queue_nothing_behind_first_prompts(vllm_config: VllmConfig) -> None:
    """Let the engine core that this process starts next do so.

    A pipeline of ranks wants to be filled instead. With Model Runner V2 it even has to be: its first stage takes the
    token of a step that is as many steps back as there are stages (``PPHandler``, 0.32.0).
    """
    is_one_stage = vllm_config.parallel_config.pipeline_parallel_size == 1
    applies = vllm_config.scheduler_config.async_scheduling and is_one_stage
    EngineCore.step_with_batch_queue = _step if applies else _vllms_step


def mark_followed(request: EngineCoreRequest) -> None:
    """Let an idle engine core wait for the request that is sent to it right behind ``request``."""
    request.trace_headers = {**(request.trace_headers or {}), _FOLLOWED: "1"}


def _step(core: Any) -> Any:
    steps = core.batch_queue_size
    is_idle = not core.batch_queue and not core.scheduler.running
    if is_idle:
        _receive_followers(core)
    try:
        core.batch_queue_size = 1 if is_idle else steps
        return _vllms_step(core)
    finally:
        core.batch_queue_size = steps


def _receive_followers(core: Any) -> None:
    while (newest := next(reversed(core.scheduler.requests.values()), None)) and _FOLLOWED in (
        newest.trace_headers or ()
    ):
        try:
            sent = core.input_queue.get(timeout=_FOLLOWING_SECONDS)
        except queue.Empty:
            return
        core._handle_client_request(*sent)
