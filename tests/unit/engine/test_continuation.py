"""Requests that come to vLLM's own engine core and ranks with output: they are where they were."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm import SamplingParams
from vllm.v1.core.sched.utils import check_stop
from vllm.v1.engine import EngineCoreEventType, EngineCoreRequest
from vllm.v1.request import RequestStatus
from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler
from vllm.v1.worker.gpu_input_batch import CachedRequestState

from ascend_serve.engine.continuation import ContinuedRequest, with_given_out
from ascend_serve.engine.continued_state import ContinuedState, continue_on_rank

PROMPT = [1, 2, 3]
TOKENS = [11, 12, 13]
VOCABULARY = 64


def sent(params: SamplingParams) -> EngineCoreRequest:
    return EngineCoreRequest(
        request_id="a",
        prompt_token_ids=list(PROMPT),
        mm_features=None,
        sampling_params=params,
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )


def arrived(params: SamplingParams) -> ContinuedRequest:
    return ContinuedRequest.from_engine_core_request(sent(params), None)


def test_in_the_engine_core_tokens_given_out_are_output_and_not_prompt() -> None:
    request = arrived(with_given_out(SamplingParams(max_tokens=9), TOKENS))
    assert request.prompt_token_ids == PROMPT
    assert list(request.output_token_ids) == TOKENS
    assert list(request.all_token_ids) == PROMPT + TOKENS
    assert request.num_computed_tokens == 0


@pytest.mark.parametrize(("max_tokens", "status"), [(4, RequestStatus.FINISHED_LENGTH_CAPPED), (5, None)])
def test_limits_count_what_was_given_out_before(max_tokens: int, status: RequestStatus | None) -> None:
    request = arrived(with_given_out(SamplingParams(max_tokens=max_tokens), TOKENS))
    request.append_output_token_ids(14)
    assert check_stop(request, max_model_len=100) is (status is not None)
    if status is not None:
        assert request.status == status


@pytest.mark.parametrize(
    ("tokens", "event"), [([], EngineCoreEventType.QUEUED), (TOKENS, EngineCoreEventType.PREEMPTED)]
)
def test_only_a_request_that_begins_is_queued_for_the_first_time(tokens: list[int], event: EngineCoreEventType) -> None:
    request = arrived(with_given_out(SamplingParams(), tokens))
    request.record_event(EngineCoreEventType.QUEUED)
    assert [each.type for each in request.events] == [event]


def test_on_a_rank_tokens_given_out_are_output() -> None:
    state = _state(with_given_out(SamplingParams(), TOKENS), None)
    assert state.prompt_token_ids == PROMPT
    assert state.output_token_ids == TOKENS
    assert state.num_tokens == len(PROMPT + TOKENS)


@pytest.mark.parametrize("is_native", [False, True], ids=["of this platform", "of NPUs"])
def test_a_seed_goes_on_where_it_was(is_native: bool) -> None:
    sampler = TopKTopPSampler()
    if is_native:
        sampler.forward = sampler.forward_native
    continue_on_rank(_runner(sampler))
    undisturbed = torch.Generator().manual_seed(5)
    drawn = [_sample(sampler, undisturbed) for _ in range(8)]
    generator = torch.Generator().manual_seed(5)
    _state(with_given_out(SamplingParams(seed=5), drawn[:5]), generator)
    assert [_sample(sampler, generator) for _ in range(3)] == drawn[5:]


def _sample(sampler: TopKTopPSampler, generator: torch.Generator) -> int:
    logits = torch.linspace(0, 1, VOCABULARY).unsqueeze(0)
    tokens, _ = sampler(logits, {0: generator}, torch.tensor([40]), torch.tensor([0.9]))
    return int(tokens.item())


def _runner(sampler: TopKTopPSampler) -> Any:
    return SimpleNamespace(
        sampler=SimpleNamespace(topk_topp_sampler=sampler),
        model_config=SimpleNamespace(get_vocab_size=lambda: VOCABULARY),
        device=torch.device("cpu"),
    )


def _state(params: SamplingParams, generator: torch.Generator | None) -> CachedRequestState:
    return ContinuedState(
        req_id="a",
        prompt_token_ids=list(PROMPT),
        mm_features=[],
        sampling_params=params,
        generator=generator,
        block_ids=([0],),
        num_computed_tokens=0,
        output_token_ids=[],
    )
