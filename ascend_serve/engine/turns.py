"""Requests wait for their turn before the engine core, in vLLM's front end (0.23.0 and 0.32.0).

There every answer is a request of its own: of several prompts, of ``n`` and of the branches of a beam search, so
that `FairShare` counts what the engine core counts. A request that waits is under way for its client, who may go.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from vllm.exceptions import VLLMValidationError

from ascend_serve.engine.arrivals import CLIENT, Arrivals
from ascend_serve.engine.fair_share import FairShare

if TYPE_CHECKING:
    from vllm.v1.engine import EngineCoreRequest
    from vllm.v1.engine.output_processor import OutputProcessor

logger = logging.getLogger(__name__)

_GRAMMARS = 1024
"""Grammars that are known to be compiled; vLLM's backend keeps as many as fit into its cache."""


class Turns:
    """Lets requests of clients go to the engine core when it is their turn.

    Args:
        processor: vLLM's output processor, which knows when a request begins and ends.
        share: Decides whose turn it is.
        is_own: Tells by its name whether a request is the replica's own, which waits for nobody.

    Attributes:
        arrivals: Requests that have come to the replica and not yet to the engine core.
    """

    def __init__(self, processor: OutputProcessor, share: FairShare, is_own: Callable[[str], bool]) -> None:
        self.arrivals = Arrivals()
        self._processor = processor
        self._share = share
        self._is_own = is_own
        self._held: dict[str, EngineCoreRequest] = {}
        self._compiling: dict[str, int] = {}
        self._compiled: OrderedDict[int, None] = OrderedDict()
        self._sending: set[asyncio.Task[None]] = set()
        self._add: Callable[[EngineCoreRequest], Any]
        self._follow()

    def is_waiting(self, name: str) -> bool:
        """Whether a request waits for its turn, so that no engine core has got it."""
        return self._share.is_waiting(name)

    def guard(self, engine_core: Any) -> None:
        """Let requests wait before ``engine_core``; those that wait already go to it as well."""
        self._add = engine_core.add_request_async
        self._compiled.clear()
        engine_core.add_request_async = self._enter

    def forget_idle(self) -> None:
        """Keep no place for who has nothing under way."""
        self._share.forget_idle()

    def close(self) -> None:
        """Let all wait whom no engine core has got: the one that is there is lost, and the next has its requests."""
        self._share.is_open = False

    def open(self) -> None:
        """Let them go to the engine core again."""
        self._share.is_open = True
        self._leave(())

    async def _enter(self, request: EngineCoreRequest) -> None:
        name = request.request_id
        is_idle = self._share.is_idle
        if self._is_own(name):
            await self._add(request)
        elif self._share.enter(CLIENT.get(), name, self._weight(request)):
            try:
                await self.arrivals.together(request, is_idle=is_idle)
                await self._add(request)
            except BaseException:
                self._leave([name])
                raise
        else:
            self._held[name] = request

    def _follow(self) -> None:
        process, abort = self._processor.process_outputs, self._processor.abort_requests

        def process_outputs(outputs: list[Any], *args: Any, **options: Any) -> Any:
            result = process(outputs, *args, **options)
            names = [output.request_id for output in outputs]
            self._begin(names)
            self._leave(name for name in names if name not in self._processor.request_states)
            return result

        def abort_requests(*args: Any, **options: Any) -> list[str]:
            aborted: list[str] = abort(*args, **options)
            self._leave(aborted)
            return aborted

        self._processor.process_outputs = process_outputs
        self._processor.abort_requests = abort_requests

    def _weight(self, request: EngineCoreRequest) -> int:
        """Tokens of its prompt; as many as one client may have where it brings a grammar that is yet to be compiled."""
        params = request.sampling_params
        if params is None or params.structured_outputs is None:
            return _tokens(request)
        grammar = hash(str(params.structured_outputs))
        if grammar in self._compiled:
            return _tokens(request)
        self._compiling[request.request_id] = grammar
        return self._share.prompt_tokens

    def _begin(self, names: list[str]) -> None:
        self._share.begin(names)
        for name in self._compiling.keys() & names if self._compiling else ():
            self._compiled[self._compiling.pop(name)] = None
            if len(self._compiled) > _GRAMMARS:
                self._compiled.popitem(last=False)

    def _leave(self, names: Iterable[str]) -> None:
        for name in names:
            self._share.leave(name)
            self._held.pop(name, None)
            self._compiling.pop(name, None)
        for name in self._share.turns():
            sending = asyncio.create_task(self._send(name))
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)

    async def _send(self, name: str) -> None:
        request = self._held.pop(name, None)
        if request is None:
            # Its client went in the meantime.
            return
        try:
            await self._add(request)
        except OverflowError as error:
            self._fail(name, VLLMValidationError(f"A number of the request is out of range: {error}"))
        except Exception as error:
            logger.warning("Request %s cannot be given to the engine: %s", name, error)
            self._fail(name, error)

    def _fail(self, name: str, error: Exception) -> None:
        """End a request with an error; of several answers to one prompt, all of them."""
        state = self._processor.request_states.get(name)
        if state is not None:
            parent = state.parent_req
            self._processor.abort_requests([name if parent is None else parent.request_id], internal=True)
            if state.queue is not None:
                state.queue.put(error)


def _tokens(request: EngineCoreRequest) -> int:
    """Tokens of its prompt and their log probabilities: one of these takes the front end as long as a rank a token."""
    logprobs = 0 if request.sampling_params is None else request.sampling_params.prompt_logprobs or 0
    return len(request.prompt_token_ids or ()) * (1 + max(0, logprobs))
