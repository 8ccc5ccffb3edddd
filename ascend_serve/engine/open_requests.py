"""Requests under way in an engine's front end, which can outlive the engine core that works on them.

All that a client has got of an answer is in vLLM's front end: text, logprobs, what of it may be the beginning of a stop
string, the other answers to the same prompt. So this stays, and only the engine core gets the request anew
(`continuation`). Nothing of it is kept twice; prompt and tokens are the lists that vLLM holds (0.23.0 and 0.32.0).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from vllm.exceptions import VLLMValidationError
from vllm.v1.engine.exceptions import EngineDeadError

from ascend_serve.engine.continuation import with_given_out, without_given_out

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.engine import EngineCoreRequest
    from vllm.v1.engine.output_processor import OutputProcessor, RequestState

_DRAWS_BEFOREHAND = ("enable_async_exponential", "enable_reduce_sample")
"""Options of vllm-ascend (0.23.0) with which a seed's generator draws otherwise than once for each token."""


@dataclass(slots=True, eq=False)
class OpenRequest:
    """A request under way.

    Attributes:
        name: vLLM's internal name of it.
        request: What the engine core got; ``None`` where another one cannot take it: images are too large to be kept.
        tokens_then: Tokens given out when the engine core got it.
        is_on_engine: Whether an engine core has it.
        is_replayed: Whether the front end still gets what another replica gave out, and no engine core has it yet.
        is_suspect: Whether the engine before may have been lost by it.
        is_alone: Whether it was handed over when nobody else waited for a token, since it is suspect.
        losses: Engines that were lost under it.
    """

    name: str
    request: EngineCoreRequest | None
    tokens_then: int = 0
    is_on_engine: bool = True
    is_replayed: bool = False
    is_suspect: bool = False
    is_alone: bool = False
    losses: int = 0


class OpenRequests:
    """What is under way in an output processor.

    Args:
        processor: vLLM's.
        is_own: Tells by its name whether a request is the replica's own; those end with their engine.

    Attributes:
        is_holding: Whether clients wait for another engine when theirs is lost; else vLLM tells them at once.
    """

    def __init__(self, processor: OutputProcessor, is_own: Callable[[str], bool]) -> None:
        self.is_holding = False
        self._processor = processor
        self._is_own = is_own
        self._kept: WeakKeyDictionary[RequestState, OpenRequest] = WeakKeyDictionary()
        self._follow()

    def __iter__(self) -> Iterator[OpenRequest]:
        """All of clients, oldest first."""
        for name, state in list(self._processor.request_states.items()):
            if not self._is_own(name) and (kept := self._kept.get(state)) is not None:
                yield kept

    def tokens(self, request: OpenRequest) -> list[int]:
        """What was given out of it so far."""
        state = self._processor.request_states.get(request.name)
        return [] if state is None or state.detokenizer is None else list(state.detokenizer.output_token_ids)

    def count(self, request: OpenRequest) -> int | None:
        """How many tokens were given out of it so far; ``None`` when it has ended."""
        state = self._processor.request_states.get(request.name)
        if state is None:
            return None
        return 0 if state.detokenizer is None else int(state.detokenizer.num_output_tokens())

    def obstacle(self, request: OpenRequest, vllm_config: VllmConfig) -> str | None:
        """Why another engine core cannot go on with it exactly; ``None`` where it can."""
        state = self._processor.request_states.get(request.name)
        if request.request is None:
            return "its prompt is more than text"
        if state is None or not self.count(request):
            return None
        if state.routed_experts_chunks:
            return "its answer has the experts of each token"
        return obstacle(request.request, vllm_config)

    def continued(self, request: OpenRequest) -> EngineCoreRequest:
        """What an engine core that goes on with it gets."""
        assert request.request is not None
        return continued(request.request, self.tokens(request))

    def fail(self, requests: Iterable[OpenRequest], refusal: str = "") -> None:
        """End requests with the error of a dead engine; of several answers to one prompt, all of them.

        Args:
            requests: Which.
            refusal: What their clients are told instead; they will not ask again.
        """
        for request in requests:
            state = self._processor.request_states.get(request.name)
            if state is not None:
                parent = state.parent_req
                root = request.name if parent is None else parent.request_id
                self._processor.abort_requests([root], internal=True)
                assert state.queue is not None
                state.queue.put(VLLMValidationError(refusal) if refusal else EngineDeadError())

    def fail_own(self) -> None:
        """End the replica's own requests."""
        names = [name for name in self._processor.request_states if self._is_own(name)]
        for name in names:
            queue = self._processor.request_states[name].queue
            self._processor.abort_requests([name], internal=True)
            assert queue is not None
            queue.put(EngineDeadError())

    def hold_late(self, engine_core: Any) -> None:
        """Let a request that comes to ``engine_core`` in the moment of its death wait with the others."""
        add = engine_core.add_request_async

        async def add_request_async(request: EngineCoreRequest) -> None:
            try:
                await add(request)
            except EngineDeadError:
                if not self.is_holding or self._is_own(request.request_id):
                    raise

        engine_core.add_request_async = add_request_async

    def _follow(self) -> None:
        processor, add, propagate = self._processor, self._processor.add_request, self._processor.propagate_error

        def add_request(request: EngineCoreRequest, *args: Any, **options: Any) -> None:
            without_given_out(request.sampling_params)
            add(request, *args, **options)
            state = processor.request_states.get(request.request_id)
            if state is not None and state not in self._kept:
                self._kept[state] = OpenRequest(request.request_id, request if _is_text(request) else None)

        def propagate_error(error: Exception) -> None:
            if self.is_holding:
                self.fail_own()
            else:
                propagate(error)

        processor.add_request = add_request
        processor.propagate_error = propagate_error


def _is_text(request: EngineCoreRequest) -> bool:
    return not request.mm_features and request.prompt_embeds is None and not request.resumable


def continued(request: EngineCoreRequest, tokens: Sequence[int]) -> EngineCoreRequest:
    """What an engine core that goes on with a request gets.

    Args:
        request: What the engine core before got.
        tokens: What was given out of it so far.
    """
    made = copy(request)
    if tokens and made.sampling_params is not None:
        made.sampling_params = with_given_out(made.sampling_params, tokens)
    return made


def obstacle(request: EngineCoreRequest, vllm_config: VllmConfig) -> str | None:
    """Why another engine core cannot go on with a request that has output; ``None`` where it can."""
    params = request.sampling_params
    if params is None:
        return None
    if (params.extra_args or {}).get("kv_transfer_params"):
        return "its KV cache came from another engine"
    if params.structured_outputs is not None and vllm_config.structured_outputs_config.reasoning_parser:
        return "its grammar begins where the reasoning ends"
    if params.seed is not None and params.temperature and not _draws_once(vllm_config):
        return "its seed does not draw once for each token"
    return None


def _draws_once(vllm_config: VllmConfig) -> bool:
    options: Any = vllm_config.additional_config
    ahead = isinstance(options, dict) and any(options.get(name) for name in _DRAWS_BEFOREHAND)
    return vllm_config.speculative_config is None and not ahead
