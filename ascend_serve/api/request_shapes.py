"""Shapes of requests that vLLM refuses too, but late or at length. Pure.

vLLM (0.32.0) holds a body against its models on the event loop, where everybody else waits meanwhile. Of a list it
tells each element that is wrong, for each of the kinds that it might have been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

MAX_ITEMS = 2048
"""Prompts, or messages with their parts: as many as OpenAI's API takes texts to embed or messages."""

GRAMMARS = ("structured_outputs", "response_format", "text", "tools")
"""Parts of requests that vLLM makes a grammar of, which have limits of their own."""

_NUMBERS, _TOKENS, _PROMPTS = frozenset({int, float}), frozenset({int}), frozenset({int, str, list, dict})
"""Types of a ``logit_bias``, of a prompt in tokens, and of a list of prompts or of items of a response."""

_CONVERSATIONS = frozenset({"messages", "system", "documents"})
"""Parts of requests that never are numbers."""


def refusal(request: Mapping[str, Any]) -> str | None:
    """Why nobody should go on with a request; what else is wrong with it the application says."""
    checks: tuple[Callable[[Mapping[str, Any]], str | None], ...] = (_grammar, _items, _messages, _prompts)
    return next((refusal for check in checks if (refusal := check(request))), None)


def _grammar(request: Mapping[str, Any]) -> str | None:
    # vLLM takes a mapping for granted before it validates, and answers 500.
    return None if isinstance(request.get("structured_outputs"), dict | None) else "structured_outputs: not an object"


def _items(request: Mapping[str, Any]) -> str | None:
    parts = ((part, name in _CONVERSATIONS) for name, part in request.items() if name not in GRAMMARS)
    items = (item for part, with_numbers in parts for item in _elements(part, with_numbers=with_numbers))
    # No further than to the limit: a body may be large.
    if sum(1 for _ in islice(items, MAX_ITEMS + 1)) > MAX_ITEMS:
        return f"one request may have {MAX_ITEMS} prompts or messages, with their parts; this one has more"
    return None


def _elements(part: Any, *, with_numbers: bool) -> Iterator[Any]:
    """All objects and elements of lists at any depth, with numbers or without: prompts in tokens are numbers."""
    left = [part]
    while left:
        each = left.pop()
        inner, free = (list(each.values()), _NUMBERS) if isinstance(each, dict) else (each, _TOKENS)
        if isinstance(inner, list) and (with_numbers or not free >= set(map(type, inner))):
            yield from inner
            left += (element for element in inner if isinstance(element, dict | list))


def _messages(request: Mapping[str, Any]) -> str | None:
    messages = request.get("messages")
    if not isinstance(messages, list):
        return None
    conversations = messages if messages and isinstance(messages[0], list) else [messages]
    if all(_has_role(message) for each in conversations if isinstance(each, list) for message in each):
        return None
    return "messages: each is an object with a role"


def _has_role(message: Any) -> bool:
    return isinstance(message, dict) and isinstance(message.get("role"), str)


def _prompts(request: Mapping[str, Any]) -> str | None:
    for name in ("prompt", "input"):
        prompts = request.get(name)
        if isinstance(prompts, list) and not (_is_even(prompts) and all(map(_is_even, prompts))):
            return f"{name}: a text, tokens, or a list of texts or of lists of tokens"
    return None


def _is_even(value: Any) -> bool:
    """Whether the elements of a list have one type, of those that a list of prompts can have."""
    kinds = set(map(type, value)) if isinstance(value, list) else set()
    return len(kinds) <= 1 and kinds <= _PROMPTS
