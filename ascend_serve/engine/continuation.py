"""Requests that go on in a fresh engine core, as those do that vLLM's scheduler preempted (vLLM 0.23.0 and 0.32.0).

What a client has got so far comes in ``SamplingParams.extra_args``, which reach the engine core and all ranks as they
are. There the request begins with these tokens as its output, not as a part of its prompt: so limits, penalties, bad
words, grammars and seeds go on where they were. As with a preempted request, the KV cache is computed anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vllm import SamplingParams
from vllm.v1.engine import EngineCoreEventType, core
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

_GIVEN_OUT = "ascend_serve_given_out"
"""Of ``extra_args``. Clients can send some themselves (``vllm_xargs``), so `without_given_out` takes theirs away."""


def with_given_out(params: SamplingParams, tokens: Sequence[int]) -> SamplingParams:
    """A copy of ``params`` that says which tokens the client has got; it has got the prompt's logprobs by then."""
    continued = params.clone()
    continued.extra_args = {**(params.extra_args or {}), _GIVEN_OUT: list(tokens)}
    continued.prompt_logprobs = None
    return continued


def without_given_out(params: SamplingParams | None) -> None:
    """Take away what a client said of this kind: nobody checked its tokens."""
    if params is not None and params.extra_args:
        params.extra_args.pop(_GIVEN_OUT, None)


def given_out(params: SamplingParams | None) -> list[int]:
    """The tokens that the client of a request has got; empty where it begins."""
    return [] if params is None or not params.extra_args else params.extra_args.get(_GIVEN_OUT, [])


class ContinuedRequest(Request):
    """A request in an engine core, which may have output when it comes."""

    @classmethod
    def from_engine_core_request(cls, request: Any, block_hasher: Any) -> ContinuedRequest:
        """Make it of what was sent."""
        made: ContinuedRequest = super().from_engine_core_request(request, block_hasher)
        if tokens := given_out(request.sampling_params):
            made.append_output_token_ids(tokens)
            # The scheduler knows these two of a preempted request: its prefill was counted before.
            made.num_preemptions = 1
            made.prefill_stats = None
        return made

    def record_event(self, event_type: EngineCoreEventType, timestamp: float | None = None) -> None:
        """Note what happens to it: vLLM's times are of the first time that it was queued, so this one is another."""
        if event_type is EngineCoreEventType.QUEUED and self.num_output_tokens:
            event_type = EngineCoreEventType.PREEMPTED
        super().record_event(event_type, timestamp)


class ContinuedGrammars(StructuredOutputManager):
    """Makes the grammars of an engine core, each in the state that it was left in."""

    def _create_grammar(self, request: Request) -> Any:
        grammar = super()._create_grammar(request)
        if tokens := given_out(request.sampling_params):
            grammar.accept_tokens(request.request_id, tokens)
        return grammar


def continue_in_core() -> None:
    """Let the engine core of this process take requests that have output, from now on."""
    core.Request = ContinuedRequest
    core.StructuredOutputManager = ContinuedGrammars
