"""Streams of which vLLM's front end tells what its engine gave out, and gets that again where another replica did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from vllm import RequestOutput, SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector

from ascend_serve.engine.async_llm import ServedLLM
from ascend_serve.engine.continuation import given_out
from ascend_serve.engine.open_requests import OpenRequests
from ascend_serve.engine.stream_outputs import STREAM, EngineOutput, OutputReplay, StreamOutputs
from tests.unit.engine.test_open_requests import request

VOCABULARY = 64
GIVEN: tuple[EngineOutput, ...] = (((11,), None, None), ((12, 13), None, None), ((14,), None, None))
STOPPED: EngineOutput = ((2,), "stop", 2)
LONG_ENOUGH: EngineOutput = ((15,), "length", None)


class Core:
    """Gets requests, and answers nothing by itself."""

    def __init__(self) -> None:
        self.got: list[EngineCoreRequest] = []

    async def add_request_async(self, added: EngineCoreRequest) -> None:
        self.got.append(added)

    async def abort_requests_async(self, names: Sequence[str]) -> None:
        pass

    def shutdown(self, timeout: float | None = None) -> None:
        pass


class FrontEnd(ServedLLM):
    """vLLM's front end without a tokenizer and before a core of the test."""

    def __init__(self) -> None:
        self.log_requests = False
        self.model_config = SimpleNamespace(get_vocab_size=lambda: VOCABULARY)
        self.vllm_config: Any = SimpleNamespace(
            structured_outputs_config=SimpleNamespace(reasoning_parser=""),
            speculative_config=None,
            additional_config={},
        )
        self.output_processor = OutputProcessor(None, log_stats=False)
        self.core = Core()
        self.engine_core: Any = self.core
        self.open_requests = OpenRequests(self.output_processor, lambda name: False)
        self._output_replay = OutputReplay(self)
        self._output_replay.guard(self.engine_core)

    def check_admission(self, *args: Any, **options: Any) -> None:
        pass

    async def add_request(self, request_id: str, prompt: Any, params: Any, **options: Any) -> RequestOutputCollector:
        queue = RequestOutputCollector(params.output_kind, request_id)
        added = request(request_id, params, external_req_id=request_id)
        await self._add_request(added, None, None, 0, queue)
        return queue

    def ask(self, stream: StreamOutputs, **params: Any) -> AsyncIterator[RequestOutput]:  # type: ignore[override]
        STREAM.set(stream)
        asked = SamplingParams(output_kind=RequestOutputKind.DELTA, max_tokens=9, **params)
        return self.generate({"prompt_token_ids": [1]}, asked, "a")

    def give_out(self, *tokens: int, finish: FinishReason | None = None) -> None:
        self.output_processor.process_outputs([EngineCoreOutput("a", list(tokens), finish_reason=finish)])


Scenario = Callable[[FrontEnd], Awaitable[None]]


def run(scenario: Scenario) -> FrontEnd:
    async def running() -> FrontEnd:
        end = FrontEnd()
        await scenario(end)
        return end

    return asyncio.run(running())


async def tokens(outputs: AsyncIterator[RequestOutput], count: int) -> list[list[int]]:
    return [list((await anext(outputs)).outputs[0].token_ids) for _ in range(count)]


@asynccontextmanager
async def under_way(outputs: AsyncIterator[RequestOutput]) -> AsyncIterator[asyncio.Task[RequestOutput]]:
    """Its next output, while it is waited for."""
    waiting = asyncio.ensure_future(anext(outputs))
    await asyncio.sleep(0.01)
    yield waiting
    waiting.cancel()


def test_what_the_engine_gave_out_is_told_output_by_output() -> None:
    async def scenario(end: FrontEnd) -> None:
        stream = StreamOutputs()
        outputs = end.ask(stream)
        async with under_way(outputs) as first:
            end.give_out(11)
            await first
            assert stream.take() == [((11,), None, None)]
            end.give_out(12, 13)
            end.give_out(14, finish=FinishReason.LENGTH)
            await anext(outputs)
            assert stream.take() == [((12, 13, 14), "length", None)]
            assert stream.is_kept

    run(scenario)


def test_the_front_end_gets_the_same_outputs_again_and_then_the_engine_goes_on() -> None:
    async def scenario(end: FrontEnd) -> None:
        stream = StreamOutputs(GIVEN)
        outputs = end.ask(stream)
        assert await tokens(outputs, len(GIVEN)) == [list(given) for given, _, _ in GIVEN]
        assert stream.take() == list(GIVEN)
        assert not end.core.got, "the engine core gets the request when the front end has got everything"
        async with under_way(outputs) as following:
            (sent,) = end.core.got
            assert given_out(sent.sampling_params) == [11, 12, 13, 14]
            end.give_out(15)
            assert list((await following).outputs[0].token_ids) == [15]

    run(scenario)


@pytest.mark.parametrize("last", [STOPPED, LONG_ENOUGH], ids=["stopped", "long-enough"])
def test_no_engine_gets_what_was_finished(last: EngineOutput) -> None:
    async def scenario(end: FrontEnd) -> None:
        stream = StreamOutputs((*GIVEN, last))
        answers = [output async for output in end.ask(stream)]
        assert answers[-1].finished
        assert answers[-1].outputs[0].finish_reason == last[1]
        assert stream.take() == [*GIVEN, last]

    end = run(scenario)
    assert not end.core.got
    assert not end.output_processor.request_states


def test_log_probabilities_are_as_many_as_tokens() -> None:
    async def scenario(end: FrontEnd) -> None:
        outputs = end.ask(StreamOutputs(GIVEN), logprobs=2)
        for given, _, _ in GIVEN:
            answer = (await anext(outputs)).outputs[0]
            assert answer.logprobs is not None
            assert len(answer.logprobs) == len(given)

    run(scenario)


def test_to_the_metrics_of_this_replica_it_begins_here() -> None:
    async def scenario(end: FrontEnd) -> None:
        outputs = end.ask(StreamOutputs(GIVEN))
        await tokens(outputs, len(GIVEN))
        (state,) = end.output_processor.request_states.values()
        assert not state.is_prefilling
        async with under_way(outputs):
            assert state.is_prefilling

    run(scenario)


def test_a_client_that_goes_meanwhile_leaves_nothing() -> None:
    async def scenario(end: FrontEnd) -> None:
        outputs: Any = end.ask(StreamOutputs(GIVEN))
        await anext(outputs)
        await outputs.aclose()

    end = run(scenario)
    assert not end.core.got
    assert not end.output_processor.request_states


def test_an_engine_that_is_lost_meanwhile_has_not_got_it() -> None:
    async def scenario(end: FrontEnd) -> None:
        outputs = end.ask(StreamOutputs(GIVEN))
        await anext(outputs)
        (replayed,) = end.open_requests
        assert replayed.is_replayed
        await tokens(outputs, len(GIVEN) - 1)
        async with under_way(outputs):
            (sent,) = end.open_requests
            assert not sent.is_replayed
            assert sent.tokens_then == 4

    run(scenario)


@pytest.mark.parametrize(
    "given", [[((VOCABULARY,), None, None)], [((-1,), None, None)]], ids=["beyond-the-vocabulary", "negative"]
)
def test_tokens_that_the_model_does_not_have_are_refused(given: Iterable[EngineOutput]) -> None:
    async def scenario(end: FrontEnd) -> None:
        with pytest.raises(VLLMValidationError, match="none of the model's 64"):
            await anext(end.ask(StreamOutputs(given)))

    end = run(scenario)
    assert not end.core.got
    assert not end.output_processor.request_states


@pytest.mark.parametrize(
    "params",
    [{"n": 2}, {"prompt_logprobs": 0}, {"extra_args": {"kv_transfer_params": {"remote": 1}}}],
    ids=["two-answers", "log-probabilities-of-the-prompt", "key-value-cache-of-another-engine"],
)
def test_what_another_replica_could_not_go_on_with_is_not_kept(params: dict[str, Any]) -> None:
    async def scenario(end: FrontEnd) -> None:
        stream = StreamOutputs()
        async with under_way(end.ask(stream, **params)):
            assert not stream.is_kept
        with pytest.raises(VLLMValidationError, match="cannot go on"):
            await anext(end.ask(StreamOutputs(GIVEN), **params))

    run(scenario)


def test_of_several_prompts_no_stream_is_kept() -> None:
    async def scenario(end: FrontEnd) -> None:
        stream = StreamOutputs()
        end.ask(stream)
        assert stream.is_kept
        end.ask(stream)
        assert not stream.is_kept

    run(scenario)
