"""How much work one request may make, from its body alone. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ascend_serve.api import request_shapes
from ascend_serve.api.request_shapes import GRAMMARS
from ascend_serve.config.schema import LimitsConfig

_BYTES_PER_TOKEN = 32
_LEAST_TEXT_BYTES = 2**16
"""A text of more bytes for each token that the model takes would be refused by it, but only once it is tokenized."""

_PROMPTS_WEIGHT = 2
"""Log probabilities of prompts take the event loop more than twice as long: they are made into text there at once."""

_COMPLETION_TOKENS = 16
"""``max_tokens`` of a completion that does not say, as in OpenAI's API."""

_MAX_TOKENS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_MEDIA = re.compile(rb'"(?:url|image_url|file_data|data)"\s*:\s*"[A-Za-z0-9+/=:;,.-]*"')
"""Images, audio and files in a body, in base64; where they stand no text is taken."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request may ask for.

    Attributes:
        body_bytes: Bytes of its body.
        config: Limits of its parts.
        model_tokens: Tokens that a prompt and its answer have together at most.
        items: Why nobody should go on with the items of a response, where there are some to look at.
    """

    body_bytes: int
    config: LimitsConfig
    model_tokens: int
    items: Callable[[list[Any]], str | None] | None = None

    @property
    def text_bytes(self) -> int:
        """Bytes of a body without its images and audio."""
        return self.config.text_bytes or max(_LEAST_TEXT_BYTES, _BYTES_PER_TOKEN * self.model_tokens)

    def refusal(self, body: bytes) -> str | None:
        """Why nobody should go on with ``body``; what is no JSON object the application refuses itself."""
        if len(body) > self.text_bytes and (size := len(_MEDIA.sub(b"", body))) > self.text_bytes:
            return _too_much("bytes of text", size, self.text_bytes, "text_bytes")
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):
            return None
        if not isinstance(request, dict):
            return None
        checks: tuple[Callable[[Mapping[str, Any]], str | None], ...] = (
            request_shapes.refusal,
            self._response,
            self._work,
            self._logprobs,
            self._grammar,
        )
        return next((refusal for check in checks if (refusal := check(request))), None)

    def _response(self, request: Mapping[str, Any]) -> str | None:
        items = request.get("input")
        if self.items is None or not isinstance(items, list):
            return None
        return self.items(items) if any(isinstance(item, dict) for item in items) else None

    def _work(self, request: Mapping[str, Any]) -> str | None:
        if "input" in request:
            # Texts to embed, which have no answers, or one conversation.
            return None
        sequences = _prompts(request) * _number(request, "n", 1)
        if sequences > self.config.sequences:
            return _too_much("prompts x n", sequences, self.config.sequences, "sequences")
        unsaid = _COMPLETION_TOKENS if "prompt" in request else self.model_tokens
        tokens = sequences * min(_max_tokens(request, unsaid), self.model_tokens)
        if sequences > 1 and tokens > self.config.tokens:
            return _too_much("prompts x n x max_tokens", tokens, self.config.tokens, "tokens")
        return None

    def _logprobs(self, request: Mapping[str, Any]) -> str | None:
        """Those of prompts, and of answers that come as a whole: vLLM writes them down in one go, on its event loop."""
        logprobs = _number(request, "top_logprobs", 0) or _number(request, "logprobs", 0)
        prompt = _number(request, "prompt_logprobs", 0) or (logprobs if request.get("echo") else 0)
        unsaid = self.model_tokens if request.get("ignore_eos") else _COMPLETION_TOKENS
        answer = 0 if request.get("stream") else logprobs * min(_max_tokens(request, unsaid), self.model_tokens)
        asked = min(_prompt_tokens(request), self.model_tokens) if prompt else 0
        each = _PROMPTS_WEIGHT * prompt * asked + answer
        number = _prompts(request) * _number(request, "n", 1) * each
        if number > self.config.logprobs:
            what = "prompts x n x tokens x logprobs"
            return _too_much(what, number, self.config.logprobs, "logprobs")
        return None

    def _grammar(self, request: Mapping[str, Any]) -> str | None:
        parts = [request[name] for name in GRAMMARS if isinstance(request.get(name), dict | list)]
        size = sum(len(json.dumps(part)) for part in parts)
        if size > self.config.grammar_bytes:
            return _too_much("bytes of schemas, choices and grammars", size, self.config.grammar_bytes, "grammar_bytes")
        longest = max((len(values) for part in parts for values in _lists(part)), default=0)
        if longest > self.config.grammar_values:
            what = "values of a choice or an enumeration"
            return _too_much(what, longest, self.config.grammar_values, "grammar_values")
        return None


def _too_much(what: str, asked: int, limit: int, key: str) -> str:
    return f"{what}: {asked}; one request may have {limit} (serving.limits.{key})"


def _prompts(request: Mapping[str, Any]) -> int:
    """Prompts of a request: those of a completion or of texts to embed, conversations of a batch, else one."""
    several = next((request[name] for name in ("prompt", "input", "messages") if name in request), None)
    # A list of numbers is one prompt in tokens, which the model's length bounds; of objects it is one conversation.
    is_several = isinstance(several, list) and bool(several) and isinstance(several[0], str | list)
    return len(several) if isinstance(several, list) and is_several else 1


def _max_tokens(request: Mapping[str, Any], unsaid: int) -> int:
    """Tokens of one answer."""
    return next((_number(request, name, unsaid) for name in _MAX_TOKENS if request.get(name) is not None), unsaid)


def _prompt_tokens(request: Mapping[str, Any]) -> int:
    """Tokens of the longest prompt at most, as far as that is known before it is tokenized."""
    prompt = request.get("prompt")
    if prompt is None:
        return len(json.dumps(request.get("messages")))
    is_list = isinstance(prompt, list) and all(isinstance(each, str | list) for each in prompt)
    return max((len(each) for each in (prompt if is_list else [prompt]) if isinstance(each, str | list)), default=0)


def _number(request: Mapping[str, Any], name: str, unsaid: int) -> int:
    """A number of the request; what is none the application refuses."""
    value = request.get(name)
    return value if isinstance(value, int) and value > 0 else unsaid


def _lists(part: Any) -> Iterator[list[Any]]:
    """All lists at any depth of a grammar, which is short enough to be looked through."""
    left = [part]
    while left:
        each = left.pop()
        if isinstance(each, str) and each.lstrip().startswith(("{", "[")):
            each = _parsed(each)
        if isinstance(each, list):
            yield each
        left += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()


def _parsed(text: str) -> Any:
    """A schema may be written as text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
