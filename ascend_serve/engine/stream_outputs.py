"""Streams that another replica could go on with, and those of another replica that go on here (vLLM 0.23.0 and 0.32.0).

Text, finish and usage of an answer are in vLLM's front end, which is gone with its replica. So a replica tells what its
engine gave out, output by output, and the one that takes its place gives its own front end the very same outputs again
before its engine core gets the request: whatever is made of them comes out as it did.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine import EngineCoreOutput, FinishReason
from vllm.v1.outputs import LogprobsLists

from ascend_serve.engine.open_requests import OpenRequest, continued, obstacle

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput
    from vllm.v1.engine import EngineCoreRequest

    from ascend_serve.engine.async_llm import ServedLLM

EngineOutput = tuple[tuple[int, ...], str | None, int | str | None]
"""New tokens, and how and by what the answer finished, as vLLM spells it."""


class StreamOutputs:
    """What engines gave out of one stream whose client may outlive this replica.

    Args:
        given: What another replica's engine gave out of it; empty where it begins.

    Attributes:
        given: What of this the front end here has not got yet.
        replayed: The request that waits until the front end has got it.
        is_kept: Whether another replica could go on with it.
    """

    def __init__(self, given: Iterable[EngineOutput] = ()) -> None:
        self.given = list(given)
        self.replayed: EngineCoreRequest | None = None
        self.is_kept = True
        self._told: list[EngineOutput] = []
        self._requests = 0

    def begin(self, params: Any) -> None:
        """Note a request of the stream; only one with one answer, and no log probabilities of its prompt, can go on."""
        self._requests += 1
        is_one = isinstance(params, SamplingParams) and params.n == 1 and self._requests == 1
        if not is_one or params.output_kind is not RequestOutputKind.DELTA or params.prompt_logprobs is not None:
            self.is_kept = False

    def note(self, output: RequestOutput) -> None:
        """Note what the engine gave out, before anything is made of it."""
        if self.is_kept:
            answer = output.outputs[0]
            self._told.append((tuple(answer.token_ids), answer.finish_reason, answer.stop_reason))

    def take(self) -> list[EngineOutput]:
        """What was noted since the last call."""
        told, self._told = self._told, []
        return told


STREAM: ContextVar[StreamOutputs | None] = ContextVar("stream", default=None)
"""The stream that the request of this context answers; ``None`` where nobody keeps it."""


class OutputReplay:
    """Notes what the engine gives out of kept streams, and lets the front end get what another replica gave out.

    Args:
        llm: The engine with its front end.
    """

    def __init__(self, llm: ServedLLM) -> None:
        self._llm = llm
        self._processor = llm.output_processor

    def guard(self, engine_core: Any) -> None:
        """Let the front end get what another replica gave out before ``engine_core`` gets the request."""
        add = engine_core.add_request_async

        async def add_request_async(request: EngineCoreRequest) -> None:
            stream = STREAM.get()
            if stream is not None and stream.is_kept:
                stream.is_kept = obstacle(request, self._llm.vllm_config) is None
            if stream is None or not stream.given:
                await add(request)
            else:
                await self._begin(stream, request)

        engine_core.add_request_async = add_request_async

    async def answers(
        self, stream: StreamOutputs, generator: AsyncGenerator[RequestOutput, None]
    ) -> AsyncGenerator[RequestOutput, None]:
        """What vLLM's ``generate`` yields, noted; first what another replica gave out, one output at a time.

        Args:
            stream: Whose answers they are.
            generator: vLLM's.
        """
        async with aclosing(generator):
            async for output in generator:
                stream.note(output)
                yield output
                if stream.replayed is not None:
                    await self._replay(stream, stream.replayed)

    async def _begin(self, stream: StreamOutputs, request: EngineCoreRequest) -> None:
        """Begin to let the front end get what another replica gave out.

        Raises:
            VLLMValidationError: It cannot go on here.
        """
        if not stream.is_kept:
            raise VLLMValidationError("A stream of this kind cannot go on in another replica.")
        vocabulary = self._llm.model_config.get_vocab_size()
        if not all(0 <= token < vocabulary for tokens, _, _ in stream.given for token in tokens):
            raise VLLMValidationError(f"The stream has tokens that are none of the model's {vocabulary}.")
        opened = self._opened(request)
        opened.is_replayed = True
        stream.replayed = request
        await self._replay(stream, request)

    async def _replay(self, stream: StreamOutputs, request: EngineCoreRequest) -> None:
        """Let the front end get the next output, and after the last the engine core the request."""
        state = self._processor.request_states.get(request.request_id)
        while state is not None and stream.given:
            self._processor.process_outputs([_core_output(request, *stream.given.pop(0))])
            if state.queue is None or state.queue.output is not None:
                return
        stream.replayed = None
        if request.request_id in self._processor.request_states:
            await self._go_on(request)

    async def _go_on(self, request: EngineCoreRequest) -> None:
        state = self._processor.request_states[request.request_id]
        # To vLLM's metrics it is a request that begins: its times here are from now on.
        state.is_prefilling = True
        if state.stats is not None:
            state.stats.queued_ts = time.monotonic()
        opened = self._opened(request)
        tokens = self._llm.open_requests.tokens(opened)
        opened.is_replayed, opened.tokens_then = False, len(tokens)
        await self._llm.engine_core.add_request_async(continued(request, tokens))

    def _opened(self, request: EngineCoreRequest) -> OpenRequest:
        return next(opened for opened in self._llm.open_requests if opened.name == request.request_id)


def _core_output(
    request: EngineCoreRequest, tokens: Sequence[int], finish_reason: str | None, stop_reason: int | str | None
) -> EngineCoreOutput:
    """What the engine core sent; a string that ends the answer vLLM's front end finds by itself."""
    is_found = isinstance(stop_reason, str)
    finish = None if finish_reason is None or is_found else FinishReason[finish_reason.upper()]
    params = request.sampling_params
    logprobs = None if params is None else params.num_logprobs
    return EngineCoreOutput(
        request.request_id,
        list(tokens),
        new_logprobs=None if logprobs is None else _no_logprobs(tokens),
        finish_reason=finish,
        stop_reason=None if is_found else stop_reason,
    )


def _no_logprobs(tokens: Sequence[int]) -> LogprobsLists:
    """Log probabilities of tokens that the client has: vLLM counts them, and who keeps the stream leaves them out.

    Only where a stream was cut between two events of one output does a client get those of the second.
    """
    shape = (len(tokens), 1)
    ids = np.array(tokens, dtype=np.int64).reshape(shape)
    return LogprobsLists(ids, np.zeros(shape, dtype=np.float32), np.ones(len(tokens), dtype=np.int64))
