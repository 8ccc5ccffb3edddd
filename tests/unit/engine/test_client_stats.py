"""What vLLM's own output processor counts, and what of that is left out."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector
from vllm.v1.metrics.stats import IterationStats, PrefillStats

from ascend_serve.engine.async_llm import ServedLLM
from ascend_serve.engine.client_stats import leave_out

PROMPT = [1, 2, 3]


def request(name: str) -> EngineCoreRequest:
    return EngineCoreRequest(
        request_id=name,
        external_req_id=name,
        prompt_token_ids=PROMPT,
        mm_features=None,
        sampling_params=SamplingParams(max_tokens=1),
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )


def answered(*names: str) -> tuple[IterationStats, dict[str, Any]]:
    """Let each of the requests have its one token in the same step: the statistics and who got an answer."""
    processor = OutputProcessor(None, log_stats=True)
    leave_out(processor, lambda name: name.startswith("own"))
    queues = {name: RequestOutputCollector(SamplingParams().output_kind, name) for name in names}
    for name, queue in queues.items():
        processor.add_request(request(name), None, None, 0, queue)
    outputs = [
        EngineCoreOutput(name, [7], finish_reason=FinishReason.LENGTH, prefill_stats=prefill()) for name in names
    ]
    stats = IterationStats()
    processor.process_outputs(outputs, engine_core_timestamp=1.0, iteration_stats=stats)
    assert not processor.has_unfinished_requests()
    return stats, {name: queue.get_nowait() for name, queue in queues.items()}


def prefill() -> PrefillStats:
    stats = PrefillStats()
    stats.set(
        num_prompt_tokens=len(PROMPT),
        num_local_cached_tokens=0,
        num_external_cached_tokens=0,
    )
    return stats


@pytest.mark.parametrize(
    ("names", "clients"),
    [
        pytest.param(("a", "b"), 2, id="clients alone"),
        pytest.param(("own-1",), 0, id="our own alone"),
        pytest.param(("a", "own-1", "b"), 2, id="our own among those of clients"),
    ],
)
def test_requests_of_our_own_are_answered_but_not_counted(names: tuple[str, ...], clients: int) -> None:
    stats, answers = answered(*names)
    assert all(answers.values())
    assert stats.num_generation_tokens == len(stats.finished_requests) == clients
    assert stats.num_prompt_tokens == clients * len(PROMPT)


def test_a_request_that_cannot_be_sent_is_the_clients_fault_and_is_forgotten() -> None:
    async def fails(request: EngineCoreRequest) -> None:
        raise OverflowError("Integer value out of range")

    async def abort(names: list[str]) -> None:
        return

    llm = ServedLLM.__new__(ServedLLM)
    llm.output_processor = OutputProcessor(None, log_stats=False)
    llm.engine_core = SimpleNamespace(add_request_async=fails, abort_requests_async=abort, shutdown=lambda **_: None)
    llm.check_admission = lambda **_: None
    llm.log_requests = False
    queue = RequestOutputCollector(SamplingParams().output_kind, "a")
    with pytest.raises(VLLMValidationError, match="out of range: Integer value"):
        asyncio.run(llm._add_request(request("a"), None, None, 0, queue))
    assert not llm.output_processor.has_unfinished_requests()
