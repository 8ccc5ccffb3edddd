"""How much work one request may make, from its body alone. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ascend_serve.config.schema import LimitsConfig

_BYTES_PER_TOKEN = 32
_LEAST_TEXT_BYTES = 2**16
"""A text of more bytes for each token that the model takes would be refused by it, but only once it is tokenized."""

_MAX_PROMPTS = 2048
"""Prompts of one request, as in OpenAI's API; vLLM has no limit of its own."""

_COMPLETION_TOKENS = 16
"""``max_tokens`` of a completion that does not say, as in OpenAI's API."""

_MAX_TOKENS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_GRAMMARS = ("structured_outputs", "response_format", "text", "tools")
"""Parts of requests that vLLM makes a grammar of."""

_MEDIA = re.compile(rb'"(?:url|image_url|file_data|data)"\s*:\s*"[A-Za-z0-9+/=:;,.-]*"')
"""Images, audio and files in a body, in base64; where they stand no text is taken."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request may ask for.

    Attributes:
        body_bytes: Bytes of its body.
        config: Limits of its parts.
        model_tokens: Tokens that a prompt and its answer have together at most.
    """

    body_bytes: int
    config: LimitsConfig
    model_tokens: int

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
        checks: tuple[Callable[[Mapping[str, Any]], str | None], ...] = (_types, self._work, self._grammar)
        return next((refusal for check in checks if (refusal := check(request))), None)

    def _work(self, request: Mapping[str, Any]) -> str | None:
        if (prompts := _prompts(request)) > _MAX_PROMPTS:
            return f"one request may have {_MAX_PROMPTS} prompts; this one has {prompts}"
        if "input" in request:
            # Texts to embed, which have no answers, or one conversation.
            return None
        sequences = prompts * _number(request, "n", 1)
        if sequences > self.config.sequences:
            return _too_much("prompts x n", sequences, self.config.sequences, "sequences")
        unsaid = _COMPLETION_TOKENS if "prompt" in request else self.model_tokens
        each = next((_number(request, name, unsaid) for name in _MAX_TOKENS if request.get(name) is not None), unsaid)
        tokens = sequences * min(each, self.model_tokens)
        if sequences > 1 and tokens > self.config.tokens:
            return _too_much("prompts x n x max_tokens", tokens, self.config.tokens, "tokens")
        return None

    def _grammar(self, request: Mapping[str, Any]) -> str | None:
        parts = [request[name] for name in _GRAMMARS if isinstance(request.get(name), dict | list)]
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


def _types(request: Mapping[str, Any]) -> str | None:
    # vLLM 0.32.0 takes a mapping for granted before it validates, and answers 500.
    if not isinstance(request.get("structured_outputs"), dict | None):
        return "structured_outputs: not an object"
    return None


def _prompts(request: Mapping[str, Any]) -> int:
    """Prompts of a request: those of a completion or of texts to embed, conversations of a batch, else one."""
    several = next((request[name] for name in ("prompt", "input", "messages") if name in request), None)
    # A list of numbers is one prompt in tokens, which the model's length bounds; of objects it is one conversation.
    is_several = isinstance(several, list) and bool(several) and isinstance(several[0], str | list)
    return len(several) if isinstance(several, list) and is_several else 1


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
