"""What a client can send to do harm: a table, and the requests that it stands for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

HUGE = 10**30
LARGE = 2**40
"""Fits into 64 bits, not into 32."""
DEEP = 100_000
"""Levels of nesting; Python's own limit is 1000."""

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"

GOOD: dict[str, dict[str, Any]] = {
    COMPLETIONS: {"model": "demo", "prompt": "Hello", "max_tokens": 4},
    CHAT: {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4},
    "/tokenize": {"model": "demo", "prompt": "Hello"},
    "/detokenize": {"model": "demo", "tokens": [1, 2]},
}

SAMPLING: dict[str, tuple[Any, ...]] = {
    "model": ("nobody", "../../etc/passwd", 7, [], {}),
    "max_tokens": (-1, LARGE, HUGE, 1.5, "many", []),
    "min_tokens": (-1, LARGE, HUGE, "few"),
    "n": (0, -1, 129, LARGE, HUGE, 1.5, "two", []),
    "temperature": (-1, "hot", [], float("nan"), float("inf")),
    "top_p": (0, -1, 2, HUGE, "most", float("nan")),
    "top_k": (-5, 1.5, HUGE, 1e30, "9" * 30, "all"),
    "min_p": (-1, 2, "x"),
    "presence_penalty": (-3, 3, HUGE, "x"),
    "frequency_penalty": (-3, 3, HUGE, "x"),
    "repetition_penalty": (0, -1, "x"),
    "seed": (HUGE, -HUGE, 1.5, "x"),
    "stop": ({"a": 1}, [[["x"]]], [1, 2], [""]),
    "stop_token_ids": ("x", [HUGE], ["x"], [-LARGE]),
    "logit_bias": ({"x": 1}, {str(LARGE): 1}, {"99999999": 1}, [1], "x"),
    "bad_words": (7, [7]),
    "allowed_token_ids": ([], [HUGE], [LARGE], [-1], "x"),
    "priority": ("first", 1.5, HUGE),
    "truncate_prompt_tokens": (-2, HUGE, "x"),
    "prompt_logprobs": (-5, LARGE, HUGE, "x"),
    "response_format": ("json", {"type": "no such"}, {"type": "json_schema"}, 7),
    "structured_outputs": (
        {"regex": "("},
        {"grammar": "::="},
        {"json": "{"},
        {"choice": []},
        {"no such": 1},
        "x",
        ["regex"],
    ),
    "stream": ("perhaps", 7, []),
    "stream_options": ({"include_usage": True}, "x"),
    "echo": ("perhaps", []),
}
"""Values that no endpoint for generation may take."""

OWN: dict[str, dict[str, tuple[Any, ...]]] = {
    COMPLETIONS: {
        "prompt": (
            None,
            7,
            {},
            [[]],
            [-1],
            [HUGE],
            [10**9],
            ["a", 1],
            [["a"]],
            "long " * 2000,
            [1] * 2000,
            ["a"] * 3000,
        ),
        "logprobs": (-5, LARGE, HUGE, "x"),
    },
    CHAT: {
        "messages": (
            None,
            "Hello",
            7,
            {},
            [7],
            [None],
            [{}],
            [{"role": 7, "content": "x"}],
            [{"role": "user", "content": 7}],
            [{"role": "user", "content": {"a": 1}}],
            [{"role": "user", "content": [{"type": "no such"}]}],
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}],
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]}],
            [{"role": "user", "content": "long " * 2000}],
        ),
        "top_logprobs": (-5, HUGE, 5, "x"),
        "tools": ("x", [7], [{}], [{"type": "function", "function": {"name": 7}}]),
        "tool_choice": ("no such", {"type": "function", "function": {"name": "no such"}}, 7),
        "chat_template": ("{% for %}", "{{ 1 / 0 }}", 7),
        "chat_template_kwargs": ("x", [1]),
        "add_generation_prompt": ("perhaps", []),
        "documents": ("x", [7]),
    },
    "/tokenize": {"prompt": (None, 7, [1]), "model": ("nobody",), "add_special_tokens": ("perhaps",)},
    "/detokenize": {"tokens": (None, "x", [-1], [HUGE], ["x"], 7), "model": ("nobody",)},
}
"""Values that one endpoint may not take."""

RAW: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "a word": b"hello",
    "null": b"null",
    "a list": b"[]",
    "a number": b"7",
    "a string": b'"x"',
    "broken UTF-8": b'{"model": "\xff\xfe"}',
    "a zero byte": b'{"model": "\x00"}',
    "half a surrogate": b'{"model": "demo", "prompt": "\\ud800", "messages": "\\ud800"}',
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep prompt": b'{"model": "demo", "prompt": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "a number of many digits": b'{"model": "demo", "n": ' + b"9" * 10_000 + b"}",
    "1,024 prompts x n 128": json.dumps(
        {"model": "demo", "prompt": ["a"] * 1024, "n": 128, "max_tokens": 1000}
    ).encode(),
    "8 MB of text": b'{"model": "demo", "prompt": "' + b"Hello, all of you. " * 400_000 + b'"}',
    "50,000 choices": json.dumps(
        {"model": "demo", "prompt": "a", "structured_outputs": {"choice": [str(number) for number in range(50_000)]}}
    ).encode(),
    "3,000 chats": json.dumps({"model": "demo", "messages": [[{"role": "user", "content": "a"}]] * 3000}).encode(),
    "10 MB": b'{"model": "demo", "prompt": "' + b"x" * 10 * 2**20 + b'"}',
}

HEADERS: dict[str, dict[str, str]] = {
    "another content type": {"Content-Type": "text/plain"},
    "no content type": {"Content-Type": ""},
    "a form": {"Content-Type": "multipart/form-data"},
}

PATHS: tuple[tuple[str, str], ...] = (
    ("GET", COMPLETIONS),
    ("DELETE", COMPLETIONS),
    ("PUT", CHAT),
    ("GET", "/v1/models/no/such"),
    ("GET", "/v1/../../etc/passwd"),
    ("GET", "/%2e%2e/%2e%2e/etc/passwd"),
    ("GET", "/no/such"),
    ("GET", "/" + "x" * 4000),
    ("POST", "/graph/report"),
    ("POST", "/health"),
)


@dataclass(frozen=True)
class Attack:
    """One request.

    Attributes:
        name: What is wrong with it.
    """

    name: str
    method: str
    path: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def attacks() -> Iterator[Attack]:
    """All requests of the table."""
    json_type = {"Content-Type": "application/json"}
    for path, good in GOOD.items():
        bad = {**(SAMPLING if path in (COMPLETIONS, CHAT) else {}), **OWN[path]}
        for key, values in bad.items():
            for value in values:
                yield Attack(
                    f"{key}={_short(value)}", "POST", path, json.dumps({**good, key: value}).encode(), json_type
                )
        for name, raw in RAW.items():
            yield Attack(name, "POST", path, raw, json_type)
    for name, headers in HEADERS.items():
        yield Attack(name, "POST", COMPLETIONS, json.dumps(GOOD[COMPLETIONS]).encode(), headers)
    for method, path in PATHS:
        yield Attack(f"{method} {path[:40]}", method, path, b"{}", json_type)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
