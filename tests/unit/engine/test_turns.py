"""Requests in vLLM's own front end that wait for their turn before the engine core."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.output_processor import RequestOutputCollector

from ascend_serve.engine.arrivals import CLIENT
from ascend_serve.engine.fair_share import FairShare
from ascend_serve.engine.turns import Turns
from tests.unit.engine.test_open_requests import FrontEnd, request


class Core:
    """An engine core that takes requests, or fails to."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.failure: Exception | None = None

    async def add_request_async(self, sent: EngineCoreRequest) -> None:
        if self.failure is not None:
            raise self.failure
        self.got.append(sent.request_id)


class Server(FrontEnd):
    """A front end whose engine has one place, unless it is said, and one more that waits there for who is alone."""

    def __init__(self, places: int = 1) -> None:
        super().__init__()
        self.core = Core()
        self.turns = Turns(self.processor, FairShare(places, 100), lambda name: name.startswith("own"))
        self.turns.guard(self.core)
        self.queues: dict[str, RequestOutputCollector] = {}

    async def ask(self, client: str, name: str, **sampling: Any) -> None:
        CLIENT.set(client)
        sent = request(name, SamplingParams(max_tokens=9, **sampling))
        self.queues[name] = self.add(sent)
        await self.core.add_request_async(sent)

    async def answer(self, name: str, reason: FinishReason | None = FinishReason.LENGTH) -> None:
        self.processor.process_outputs([EngineCoreOutput(name, [7], finish_reason=reason)])
        await asyncio.sleep(0)

    async def abort(self, name: str) -> None:
        self.processor.abort_requests([name], internal=True)
        await asyncio.sleep(0)


async def _ask_all(server: Server, *asked: str) -> None:
    for each in asked:
        await server.ask(*each.split())


def test_what_waits_goes_in_when_another_has_ended() -> None:
    async def scenario() -> None:
        server = Server()
        await _ask_all(server, "a a1", "a a2", "a a3", "b b1")
        assert server.core.got == ["a1", "a2"]
        await server.answer("a1", None)
        await server.answer("a1")
        assert server.core.got == ["a1", "a2"]
        await server.answer("a2")
        assert server.core.got == ["a1", "a2", "b1"]
        assert server.turns.is_waiting("a3")

    asyncio.run(scenario())


def test_who_goes_is_not_waited_for() -> None:
    async def scenario() -> None:
        server = Server()
        await _ask_all(server, "a a1", "a a2", "a a3", "a a4")
        await server.abort("a3")
        await server.abort("a1")
        assert server.core.got == ["a1", "a2", "a4"]

    asyncio.run(scenario())


def test_own_requests_wait_for_nobody() -> None:
    async def scenario() -> None:
        server = Server()
        await _ask_all(server, "a a1", "a a2", "a a3", "a own1")
        assert server.core.got == ["a1", "a2", "own1"]

    asyncio.run(scenario())


def test_what_waits_goes_to_the_engine_core_that_is_there_then() -> None:
    async def scenario() -> None:
        server, fresh = Server(), Core()
        await _ask_all(server, "a a1", "a a2", "a a3")
        server.turns.guard(fresh)
        await fresh.add_request_async(request("a1"))
        await fresh.add_request_async(request("a3"))
        assert fresh.got == ["a1"]
        await server.answer("a1")
        assert fresh.got == ["a1", "a3"]

    asyncio.run(scenario())


def test_nobody_s_turn_comes_between_two_engine_cores() -> None:
    async def scenario() -> None:
        server, fresh = Server(), Core()
        await _ask_all(server, "a a1", "a a2", "a a3")
        server.turns.close()
        server.turns.guard(fresh)
        await server.abort("a1")
        await _ask_all(server, "b b1", "b own1")
        assert fresh.got == ["own1"]
        server.turns.open()
        await server.answer("a2")
        assert fresh.got == ["own1", "b1"]

    asyncio.run(scenario())


def test_new_grammars_of_one_client_are_compiled_one_after_another() -> None:
    async def scenario() -> None:
        server = Server(places=16)
        await server.ask("b", "b1")
        for name in ("a1", "a2", "a3"):
            await server.ask("a", name, structured_outputs=StructuredOutputsParams(regex=name))
        assert server.core.got == ["b1", "a1"]
        await server.answer("a1", None)
        assert server.core.got == ["b1", "a1", "a2"]
        await server.abort("a2")
        await server.answer("a3", None)
        for name in ("a4", "a5"):
            await server.ask("a", name, structured_outputs=StructuredOutputsParams(regex="a1"))
        assert server.core.got == ["b1", "a1", "a2", "a3", "a4", "a5"]

    asyncio.run(scenario())


def test_log_probabilities_of_prompts_of_one_client_come_one_after_another() -> None:
    async def scenario() -> None:
        server = Server(places=16)
        await server.ask("b", "b1")
        for name in ("a1", "a2"):
            await server.ask("a", name, prompt_logprobs=20)
        assert server.core.got == ["b1", "a1"]
        await server.answer("a1", None)
        assert server.core.got == ["b1", "a1", "a2"]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        pytest.param(OverflowError("int too big"), VLLMValidationError, id="a number that cannot be sent"),
        pytest.param(EngineDeadError(), EngineDeadError, id="a dead engine"),
    ],
)
def test_what_cannot_be_given_to_the_engine_is_told(failure: Exception, told: type[Exception]) -> None:
    async def scenario() -> None:
        server = Server()
        await _ask_all(server, "a a1", "a a2", "a a3")
        server.core.failure = failure
        await server.answer("a1")
        with pytest.raises(told):
            await server.queues["a3"].get()
        assert "a3" not in server.processor.request_states

    asyncio.run(scenario())


def test_a_failure_at_once_leaves_the_place_free() -> None:
    async def scenario() -> None:
        server = Server()
        server.core.failure = EngineDeadError()
        for name in ("a1", "a2", "a3"):
            with pytest.raises(EngineDeadError):
                await server.ask("a", name)
        server.core.failure = None
        await server.ask("a", "a4")
        assert server.core.got == ["a4"]

    asyncio.run(scenario())
