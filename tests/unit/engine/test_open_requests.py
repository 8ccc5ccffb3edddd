"""Requests in vLLM's own front end whose engine core is lost: what another one gets, and what clients are told."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector
from vllm.v1.engine.parallel_sampling import ParentRequest

from ascend_serve.engine.continuation import given_out
from ascend_serve.engine.open_requests import OpenRequest, OpenRequests

PROMPT = [1, 2, 3]


def request(name: str = "a", params: SamplingParams | None = None, **fields: Any) -> EngineCoreRequest:
    given = {
        "request_id": name,
        "external_req_id": name,
        "prompt_token_ids": PROMPT,
        "mm_features": None,
        "sampling_params": params or SamplingParams(max_tokens=9),
        "pooling_params": None,
        "arrival_time": 0.0,
        "lora_request": None,
        "cache_salt": None,
        "data_parallel_rank": None,
    }
    return EngineCoreRequest(**{**given, **fields})


class FrontEnd:
    """vLLM's output processor, followed."""

    def __init__(self, *, holding: bool = True) -> None:
        self.processor = OutputProcessor(None, log_stats=False)
        self.open = OpenRequests(self.processor, lambda name: name.startswith("own"))
        self.open.is_holding = holding

    def add(self, sent: EngineCoreRequest) -> RequestOutputCollector:
        assert sent.sampling_params is not None
        queue = RequestOutputCollector(sent.sampling_params.output_kind, sent.request_id)
        self.processor.add_request(sent, None, None, 0, queue)
        return queue

    def add_two_answers(self) -> RequestOutputCollector:
        parent = ParentRequest(request("both", SamplingParams(n=2, max_tokens=9)))
        queue = RequestOutputCollector(parent.sampling_params.output_kind, "both")
        for index in range(2):
            name, params = parent.get_child_info(index)
            child = request(name, params, external_req_id="both")
            self.processor.add_request(child, None, parent, index, queue)
        return queue

    def give_out(self, name: str, *tokens: int, finish: FinishReason | None = None) -> None:
        self.processor.process_outputs([EngineCoreOutput(name, list(tokens), finish_reason=finish)])

    @property
    def only(self) -> OpenRequest:
        (left,) = self.open
        return left


def test_another_engine_core_gets_the_same_request_with_what_was_given_out_beside_it() -> None:
    end = FrontEnd()
    params = SamplingParams(max_tokens=9, min_tokens=4, seed=5, presence_penalty=0.5, prompt_logprobs=1)
    sent = request(params=params, priority=3, arrival_time=7.0, cache_salt="salt")
    end.add(sent)
    end.give_out("a", 11, 12)
    continued = end.open.continued(end.only)
    assert continued.sampling_params is not None
    assert given_out(continued.sampling_params) == [11, 12]
    assert continued.sampling_params.prompt_logprobs is None
    for name in ("max_tokens", "min_tokens", "seed", "presence_penalty"):
        assert getattr(continued.sampling_params, name) == getattr(params, name)
    for name in ("request_id", "prompt_token_ids", "priority", "arrival_time", "cache_salt"):
        assert getattr(continued, name) == getattr(sent, name)
    assert not given_out(sent.sampling_params)


def test_a_request_of_which_nothing_was_given_out_begins_anew_as_it_was() -> None:
    end = FrontEnd()
    sent = request(params=SamplingParams(prompt_logprobs=1))
    end.add(sent)
    assert end.open.continued(end.only) == sent


def test_prompt_and_tokens_are_kept_once() -> None:
    end = FrontEnd()
    sent = request()
    end.add(sent)
    states: list[Any] = list(end.processor.request_states.values())
    assert [state.prompt_token_ids is sent.prompt_token_ids for state in states] == [True]
    assert end.only.request is sent


def test_nobody_checked_tokens_that_a_client_says_it_has_got() -> None:
    end = FrontEnd()
    name = next(iter(_continued_params().extra_args or ()))
    sent = request(params=SamplingParams(extra_args={name: [10**9], "other": 1}))
    end.add(sent)
    assert sent.sampling_params is not None
    assert sent.sampling_params.extra_args == {"other": 1}


def _continued_params() -> SamplingParams:
    end = FrontEnd()
    end.add(request())
    end.give_out("a", 11)
    params = end.open.continued(end.only).sampling_params
    assert params is not None
    return params


JSON = StructuredOutputsParams(json="{}")
SEEDED = SamplingParams(seed=1, temperature=0.5)
TRANSFER = SamplingParams(extra_args={"kv_transfer_params": {"do_remote_prefill": True}})


@pytest.mark.parametrize(
    ("sent", "engine", "obstacle"),
    [
        pytest.param(request(), {}, None, id="greedy or without a seed"),
        pytest.param(request(params=SEEDED), {}, None, id="seed"),
        pytest.param(request(params=SEEDED), {"speculative_config": "ngram"}, "seed", id="seed and speculation"),
        pytest.param(
            request(params=SEEDED),
            {"additional_config": {"enable_async_exponential": True}},
            "seed",
            id="seed that draws beforehand",
        ),
        pytest.param(request(params=SamplingParams(structured_outputs=JSON)), {}, None, id="grammar"),
        pytest.param(
            request(params=SamplingParams(structured_outputs=JSON)), {"reasoning": "qwen3"}, "grammar", id="reasoning"
        ),
        pytest.param(request(params=TRANSFER), {}, "KV cache", id="KV cache of another engine"),
        pytest.param(request(prompt_embeds=torch.zeros(3, 2)), {}, "more than text", id="embeddings"),
        pytest.param(request(mm_features=["image"]), {}, "more than text", id="image"),
        pytest.param(request(resumable=True), {}, "more than text", id="stream of prompts"),
    ],
)
def test_what_cannot_go_on_exactly_is_named(sent: EngineCoreRequest, engine: dict[str, Any], obstacle: str) -> None:
    end = FrontEnd()
    end.add(sent)
    end.give_out("a", 11)
    found = end.open.obstacle(end.only, _config(**engine))
    assert found is None if obstacle is None else obstacle in str(found)


def test_what_has_no_output_yet_begins_anew_whatever_it_asks_for() -> None:
    end = FrontEnd()
    end.add(request(params=TRANSFER))
    assert end.open.obstacle(end.only, _config()) is None


def _config(reasoning: str = "", **fields: Any) -> Any:
    given = {"speculative_config": None, "additional_config": {}, **fields}
    return SimpleNamespace(structured_outputs_config=SimpleNamespace(reasoning_parser=reasoning), **given)


def test_clients_wait_for_another_engine_and_the_replica_does_not() -> None:
    end = FrontEnd()
    queues = [end.add(request(name)) for name in ("a", "own-1")]
    end.processor.propagate_error(EngineDeadError())
    assert queues[0].get_nowait() is None
    with pytest.raises(EngineDeadError):
        queues[1].get_nowait()
    assert end.only.name == "a"


def test_without_holding_clients_are_told_at_once() -> None:
    end = FrontEnd(holding=False)
    queue = end.add(request())
    end.processor.propagate_error(EngineDeadError())
    with pytest.raises(EngineDeadError):
        queue.get_nowait()


@pytest.mark.parametrize(
    ("refusal", "error", "text"), [("", EngineDeadError, "EngineCore"), ("not again", VLLMValidationError, "not again")]
)
def test_a_request_that_ends_is_told_why_and_forgotten(refusal: str, error: type[Exception], text: str) -> None:
    end = FrontEnd()
    queue = end.add(request())
    end.give_out("a", 11)
    end.open.fail(end.open, refusal)
    with pytest.raises(error, match=text):
        queue.get_nowait()
    assert not end.processor.has_unfinished_requests()


def test_of_several_answers_to_a_prompt_all_end() -> None:
    end = FrontEnd()
    queue = end.add_two_answers()
    first, *_ = end.open
    end.open.fail([first])
    with pytest.raises(EngineDeadError):
        queue.get_nowait()
    assert not end.processor.has_unfinished_requests()
    assert not end.processor.parent_requests


def test_each_of_several_answers_goes_on_after_its_own_tokens() -> None:
    end = FrontEnd()
    end.add_two_answers()
    first, second = end.open
    end.give_out(first.name, 11)
    end.give_out(second.name, 21, 22)
    assert [given_out(end.open.continued(each).sampling_params) for each in (first, second)] == [[11], [21, 22]]


@pytest.mark.parametrize("ending", ["finished", "departed"])
def test_who_needs_no_engine_any_more_is_not_among_them(ending: str) -> None:
    end = FrontEnd()
    end.add(request())
    left = end.only
    if ending == "finished":
        end.give_out("a", 11, finish=FinishReason.LENGTH)
    else:
        end.processor.abort_requests(["a"], internal=True)
    assert list(end.open) == []
    assert end.open.count(left) is None


@pytest.mark.parametrize(("holding", "name", "waits"), [(True, "a", True), (False, "a", False), (True, "own-1", False)])
def test_a_request_that_comes_as_the_engine_core_dies_waits_with_the_others(
    holding: bool, name: str, waits: bool
) -> None:
    async def dead(sent: EngineCoreRequest) -> None:
        raise EngineDeadError

    core = SimpleNamespace(add_request_async=dead)
    FrontEnd(holding=holding).open.hold_late(core)
    if waits:
        asyncio.run(core.add_request_async(request(name)))
    else:
        with pytest.raises(EngineDeadError):
            asyncio.run(core.add_request_async(request(name)))
