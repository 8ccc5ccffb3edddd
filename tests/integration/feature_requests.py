"""What each feature is asked, and what an answer has to show so that the feature was used at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

CHUNK = 64
"""Tokens of a batch at most: longer prompts come in chunks."""


class Feature(StrEnum):
    """What can be asked of an engine."""

    TOOLS = "tool calls"
    STRUCTURED = "structured outputs"
    LOGPROBS = "logprobs"
    PREFIX = "prefix caching"
    CHUNKED = "chunked prefill"
    SEVERAL = "n > 1"
    RESPONSES = "Responses"
    MESSAGES = "Anthropic messages"
    LORA = "LoRA"
    NGRAM = "ngram"
    DRAFT = "draft model"
    EMBEDDINGS = "embeddings"
    ENCODER = "embeddings of an encoder"
    SCORE = "score"
    SLEEP = "sleep"


@dataclass(frozen=True)
class Asked:
    """Requests of one feature.

    Attributes:
        steps: Requests that are made one after the other, or together where a step has several: path and body.
        shows: Whether the answers show that the feature was used.
    """

    steps: Sequence[Sequence[tuple[str, Mapping[str, Any]]]]
    shows: Callable[[Sequence[Any]], bool]


def _completion(prompt: str = "hello", tokens: int = 8, **body: Any) -> tuple[str, dict[str, Any]]:
    return "/v1/completions", {"model": "target", "prompt": prompt, "max_tokens": tokens, "temperature": 0, **body}


def _chat(**body: Any) -> tuple[str, dict[str, Any]]:
    messages = [{"role": "user", "content": "Hello"}]
    return "/v1/chat/completions", {"model": "target", "messages": messages, "temperature": 0, **body}


def _text(answer: Any) -> str:
    return str(answer["choices"][0]["text"])


_UNIT = {"type": "object", "properties": {"unit": {"enum": ["c", "f"]}}, "required": ["unit"]}
_TOOL = {
    "type": "function",
    "function": {"name": "set_unit", "strict": True, "parameters": _UNIT | {"additionalProperties": False}},
}
_SCHEMA = {"type": "json_schema", "json_schema": {"name": "unit", "schema": _UNIT, "strict": True}}
_CHOICE = {"type": "function", "function": {"name": "set_unit"}}
_STORY = "once upon a time "
_ECHO: dict[str, Any] = {"echo": True, "logprobs": 2}
_SAMPLED: dict[str, Any] = {"temperature": 0.8, "seed": 11}
COUNTED = "/counted"
"""Stands for a look at the engine's metrics: whether a counter has counted anything."""
_DRAFTED = Asked(
    [
        [_completion("abc abc abc abc abc", 24)],
        [_completion(f"{n} " * 5, 16) for n in (12, 34, 56)],
        [(COUNTED, {"counter": "vllm:spec_decode_num_draft_tokens_total"})],
    ],
    lambda answers: answers[-1] is True,
)
_EMBEDDINGS = Asked(
    [
        [("/v1/embeddings", {"model": "target", "input": ["hello", "zebra"]})],
        [("/pooling", {"model": "target", "input": "hello"})],
    ],
    lambda answers: answers[0]["data"][0]["embedding"] != answers[0]["data"][1]["embedding"],
)

ASKED: Mapping[Feature, Asked] = {
    Feature.TOOLS: Asked(
        [[_chat(tools=[_TOOL], tool_choice=_CHOICE, max_tokens=120)], [_chat(tools=[_TOOL], max_tokens=6)]],
        lambda answers: answers[0]["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "set_unit",
    ),
    Feature.STRUCTURED: Asked(
        [
            [_completion(structured_outputs={"choice": ["yes", "no"]})],
            [_completion(structured_outputs={"regex": "[a-c]{3,6}"})],
            [_chat(response_format=_SCHEMA, max_tokens=60)],
        ],
        lambda answers: _text(answers[0]) in ("yes", "no") and set(_text(answers[1])) <= set("abc"),
    ),
    Feature.LOGPROBS: Asked(
        [
            [_completion(**_ECHO)],
            [_completion(prompt_logprobs=1)],
            [_chat(logprobs=True, top_logprobs=2, max_tokens=6)],
        ],
        lambda answers: len(answers[0]["choices"][0]["logprobs"]["token_logprobs"]) > 8,
    ),
    Feature.PREFIX: Asked(
        [[_completion(_STORY * 9)], [_completion(_STORY * 9)]],
        lambda answers: answers[1]["usage"]["prompt_tokens_details"]["cached_tokens"] > 0,
    ),
    Feature.CHUNKED: Asked(
        [[_completion("a story that comes in chunks, " * 7), _completion("short")]],
        lambda answers: answers[0]["usage"]["prompt_tokens"] > 2 * CHUNK,
    ),
    Feature.SEVERAL: Asked(
        [[_completion(n=3, **_SAMPLED)], [_completion(n=2, **_SAMPLED, **_ECHO)]],
        lambda answers: len({choice["text"] for choice in answers[0]["choices"]}) > 1,
    ),
    Feature.RESPONSES: Asked(
        [[("/v1/responses", {"model": "target", "input": "Hello", "max_output_tokens": 8, "temperature": 0})]],
        lambda answers: len(answers[0]["output"]) > 0,
    ),
    Feature.MESSAGES: Asked(
        [
            [
                (
                    "/v1/messages",
                    {
                        "model": "target",
                        "max_tokens": 8,
                        "temperature": 0,
                        "messages": [{"role": "user", "content": "Hello"}],
                    },
                )
            ]
        ],
        lambda answers: len(answers[0]["content"][0]["text"]) > 0,
    ),
    Feature.LORA: Asked(
        [
            [_completion()],
            [_completion(model="static")],
            # OTHER stands for the folder of another adapter.
            [("/v1/load_lora_adapter", {"lora_name": "late", "lora_path": "OTHER"})],
            [_completion(model="late")],
            [_completion(model="static"), _completion(), _completion("short", model="static")],
            [_completion(model="static", n=2, **_SAMPLED, **_ECHO)],
        ],
        lambda answers: len({_text(answers[0]), _text(answers[1]), _text(answers[3])}) == 3,
    ),
    Feature.NGRAM: _DRAFTED,
    Feature.DRAFT: _DRAFTED,
    Feature.EMBEDDINGS: _EMBEDDINGS,
    Feature.ENCODER: _EMBEDDINGS,
    Feature.SCORE: Asked(
        [
            [("/score", {"model": "target", "queries": "hello", "documents": ["hi", "zebra"]})],
            [("/rerank", {"model": "target", "query": "hello", "documents": ["hi", "zebra"]})],
            [("/classify", {"model": "target", "input": "hello"})],
        ],
        lambda answers: answers[0]["data"][0]["score"] != answers[0]["data"][1]["score"],
    ),
}
"""Of all features but ``SLEEP``, which emulated NPUs refuse."""

_OF_THE_MOMENT = frozenset({"id", "call_id", "created", "created_at", "completed_at", "system_fingerprint"})
"""Fields that differ from answer to answer, or from engine to engine."""


def difference(one: Any, other: Any, path: str = "answers") -> str:
    """Where two answers say something else, texts exactly and figures as far as float32 has them; empty if nowhere."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = one.keys() | other.keys()
        found = (difference(one.get(n), other.get(n), f"{path}.{n}") for n in sorted(names - _OF_THE_MOMENT))
        return next(filter(None, found), "")
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        found = (difference(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(one, other, strict=True)))
        return next(filter(None, found), "")
    if isinstance(one, float) and isinstance(other, float) and math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-3):
        return ""
    return "" if one == other else f"{path}: {one!r}, eager: {other!r}"
