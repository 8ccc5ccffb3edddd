"""Shapes of requests that reports say broke servers: a table, with what is the right answer to each.

Those that a server refuses by its options are answered on one that has them in `test_server_options`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
MAX_MODEL_LEN = 256
"""Of the configuration of `tests.e2e.conftest`; a character of its model is a token."""

Check = Callable[[dict[str, Any]], bool]
HELLO = [{"role": "user", "content": "Hello"}]
MIXED = "Привет 你好 👩‍👩‍👧‍👦 שלום é \u0000x"
"""Right to left, joined by zero width joiners, and a zero."""
DIGIT = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["a"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
CALLED = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOLD = [HELLO[0], {"role": "assistant", "content": None, "tool_calls": [CALLED]}]
SONG = [HELLO[0], {"role": "assistant", "content": "This is a song"}]


@dataclass(frozen=True)
class Shape:
    """One request.

    Attributes:
        name: What is odd about it.
        status: HTTP's status of the right answer.
        check: What holds for the body of the right answer.
        told: What the refusal says, where it is one.
    """

    name: str
    path: str
    body: Mapping[str, Any]
    status: int = 200
    check: Check = lambda _: True
    told: str = ""


def _completion(name: str, check: Check = lambda _: True, /, prompt: Any = "Hello", **body: Any) -> Shape:
    return Shape(name, COMPLETIONS, {"prompt": prompt, "max_tokens": 4, **body}, check=check)


def _chat(name: str, check: Check = lambda _: True, /, messages: Any = HELLO, **body: Any) -> Shape:
    return Shape(name, CHAT, {"messages": messages, "max_tokens": 4, **body}, check=check)


def _refused(shape: Shape, told: str) -> Shape:
    return Shape(shape.name, shape.path, shape.body, 400, told=told)


def _usage(**tokens: int) -> Check:
    return lambda answer: {name: answer["usage"][f"{name}_tokens"] for name in tokens} == tokens


def _texts(answer: Mapping[str, Any]) -> list[str]:
    return [choice["text"] if "text" in choice else choice["message"]["content"] for choice in answer["choices"]]


def _is_digit(answer: Mapping[str, Any]) -> bool:
    return json.loads(_texts(answer)[0])["a"] in range(10)


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


LOGPROBS = (
    _completion(
        "echo without a new token",
        lambda answer: _texts(answer) == ["Yes"] and len(answer["choices"][0]["logprobs"]["tokens"]) == 3,
        prompt="Yes",
        echo=True,
        max_tokens=0,
        logprobs=1,
    ),
    _refused(_completion("no token and no echo", max_tokens=0), "max_tokens must be at least 1"),
    _completion(
        "logprobs of the prompt",
        lambda answer: len(answer["choices"][0]["prompt_logprobs"]) == len("The rule as proposed"),
        prompt="The rule as proposed",
        prompt_logprobs=10,
    ),
    _completion(
        "as many logprobs as may be",
        lambda answer: len(answer["choices"][0]["logprobs"]["top_logprobs"][0]) == 20,
        logprobs=20,
    ),
    _refused(_completion("one more", logprobs=21), "max allowed: 20"),
    _chat(
        "as many in a chat",
        lambda answer: len(answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 20,
        logprobs=True,
        top_logprobs=20,
    ),
    _refused(_chat("all of them", logprobs=True, top_logprobs=-1), "max allowed: 20"),
)

STRUCTURED = (
    _chat("a JSON schema", _is_digit, max_tokens=64, response_format=_schema(DIGIT)),
    _chat(
        "any JSON object",
        lambda answer: (
            answer["choices"][0]["finish_reason"] == "length" or isinstance(json.loads(_texts(answer)[0]), dict)
        ),
        max_tokens=32,
        response_format={"type": "json_object"},
    ),
    _completion(
        "a choice, three times, with logprobs",
        lambda answer: len(_texts(answer)) == 3 and set(_texts(answer)) <= {"yes", "no"},
        n=3,
        max_tokens=8,
        logprobs=2,
        structured_outputs={"choice": ["yes", "no"]},
    ),
    _completion(
        "a pattern that ends before min_tokens",
        lambda answer: len(_texts(answer)[0]) == 3 and set(_texts(answer)[0]) <= set("ab"),
        max_tokens=16,
        min_tokens=12,
        structured_outputs={"regex": "[ab]{3}"},
    ),
    _completion("a key of older releases", _usage(completion=4), guided_choice=["yes", "no"], ignore_eos=True),
    _chat("tools that are not to be called", tools=[TOOL], tool_choice="none"),
    _refused(_chat("tools without a parser", tools=[TOOL]), "--enable-auto-tool-choice"),
)

SAMPLING = (
    _completion(
        "more choices than sequences",
        lambda answer: len(_texts(answer)) == 128 and answer["usage"]["completion_tokens"] == 384,
        n=128,
        max_tokens=3,
        ignore_eos=True,
    ),
    _completion("best of more than n", lambda answer: len(_texts(answer)) == 1, best_of=4, n=1),
    _completion("beam search", lambda answer: len(set(_texts(answer))) == 3, use_beam_search=True, n=3),
    _refused(_completion("min_tokens over max_tokens", min_tokens=9), "min_tokens must be less than or equal to"),
    _completion(
        "stop strings before min_tokens",
        _usage(completion=8),
        min_tokens=8,
        max_tokens=8,
        stop=["e", "a", " "],
        include_stop_str_in_output=True,
    ),
    _refused(_completion("2,000 stop strings", stop=[f"zz{number}" for number in range(2000)]), "stop"),
    _completion(
        "bias, bad words and allowed tokens at once",
        lambda answer: answer["choices"][0]["token_ids"] == [5] * 4,
        logit_bias={"5": 100},
        bad_words=["foo"],
        allowed_token_ids=[5, 6, 7],
        return_token_ids=True,
    ),
    _completion("greedy with settings of sampling", temperature=0, seed=1, top_k=1, min_p=0.1, repetition_penalty=1.2),
)

PROMPTS = (
    _refused(_completion("nothing", prompt=""), "non-empty"),
    _refused(_completion("no prompt in a list", prompt=[]), "at least one prompt"),
    _chat("a message without text", messages=[{"role": "user", "content": ""}]),
    _refused(_chat("no message", messages=[]), "at least one message"),
    _chat("an earlier tool call", messages=[*TOLD, {"role": "tool", "tool_call_id": "c1", "content": "ok"}]),
    _chat("text in parts", messages=[{"role": "user", "content": [{"type": "text", "text": text} for text in "ab"]}]),
    _chat("the developer's role", messages=[{"role": "developer", "content": "x"}, HELLO[0]]),
    *(
        _chat(
            f"an answer to go on with, {time}",
            lambda answer: _texts(answer)[0].startswith("This is a song"),
            messages=SONG,
            add_generation_prompt=False,
            continue_final_message=True,
            echo=True,
        )
        for time in ("once", "again")
    ),
    _completion("tokens", _usage(prompt=3), prompt=[1, 2, 3]),
    _completion("two lists of tokens", lambda answer: len(_texts(answer)) == 4, prompt=[[1, 2, 3], [4, 5]], n=2),
    _refused(_completion("a token beyond the vocabulary", prompt=[10**6]), "out of vocabulary"),
    _refused(_completion("embeddings of a prompt", prompt_embeds="AAAA"), "--enable-prompt-embeds"),
    _completion(
        "all but one of the context", _usage(prompt=MAX_MODEL_LEN - 1), prompt=[5] * (MAX_MODEL_LEN - 1), max_tokens=1
    ),
    _refused(_completion("all of the context", prompt=[5] * MAX_MODEL_LEN, max_tokens=1), "at least 1, got 0"),
    _refused(_completion("all of it, no limit", prompt=[5] * MAX_MODEL_LEN, max_tokens=None), "at least 1, got 0"),
    _completion("a prompt to be cut", _usage(prompt=16), prompt=[5] * 2000, truncate_prompt_tokens=16),
    _refused(_completion("more tokens than the context", max_tokens=100_000), f"max_model_len={MAX_MODEL_LEN}"),
    _chat(
        "the newer name of the limit", _usage(completion=3), max_tokens=None, max_completion_tokens=3, ignore_eos=True
    ),
    _chat("up to the end of the context", _usage(total=MAX_MODEL_LEN), max_tokens=None, ignore_eos=True),
    _chat("many scripts", messages=[{"role": "user", "content": MIXED}]),
)

OTHERS = (
    Shape("Anthropic's messages", "/v1/messages", {"messages": HELLO, "max_tokens": 4}),
    Shape("responses", "/v1/responses", {"input": "Hello", "max_output_tokens": 4}),
    Shape("tokens of a chat", "/tokenize", {"messages": HELLO}, check=lambda answer: answer["count"] == 24),
    Shape("embeddings of a generator", "/v1/embeddings", {"input": "Hello"}, 404),
    Shape("ranks of a generator", "/rerank", {"query": "a", "documents": ["b"]}, 404),
    Shape("an adapter that nobody asked for", "/v1/load_lora_adapter", {"lora_name": "a", "lora_path": "/x"}, 404),
)

ANSWERED = (*LOGPROBS, *STRUCTURED, *SAMPLING, *PROMPTS, *OTHERS)
"""Each with its right answer."""

STREAMED = (
    _completion(
        "three choices and usage",
        lambda answer: len(answer["choices"]) == 3 and answer["usage"]["completion_tokens"] == 18,
        n=3,
        max_tokens=6,
        seed=3,
        ignore_eos=True,
        stream_options={"include_usage": True},
    ),
    _chat(
        "usage with each piece",
        _usage(completion=5),
        max_tokens=5,
        ignore_eos=True,
        stream_options={"include_usage": True, "continuous_usage_stats": True},
    ),
    _completion("echo and logprobs", lambda answer: _texts(answer)[0].startswith("Hello"), echo=True, logprobs=1),
    _chat("a JSON schema", _is_digit, max_tokens=64, response_format=_schema(DIGIT)),
)
"""Those that are asked as streams; the choices and the last usage of one, joined, are its body."""


def wrong_answers(http: httpx.Client) -> Iterator[str]:
    """What is not right about the answers of a server, by the name of the shape."""
    for shape in ANSWERED:
        answer = http.post(shape.path, json={"model": "demo", **shape.body})
        if answer.status_code != shape.status or shape.told not in answer.text:
            yield f"{shape.name}: {answer.status_code} {answer.text[:200]}"
        elif shape.status == httpx.codes.OK and not shape.check(answer.json()):
            yield f"{shape.name}: {answer.text[:400]}"
    for shape in STREAMED:
        status, content = streamed(http, shape.path, shape.body)
        if status != httpx.codes.OK or not shape.check(content):
            yield f"{shape.name}, streamed: {status} {content}"


def streamed(http: httpx.Client, path: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    """Status and content of a stream: its texts by choice, and the usage that came last."""
    texts: dict[int, str] = {}
    usage: dict[str, Any] = {}
    with http.stream("POST", path, json={"model": "demo", **body, "stream": True}) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    if not lines or lines[-1] != "[DONE]":
        return answer.status_code, {"choices": [], "usage": {}, "cut": lines[-1:]}
    for piece in map(json.loads, lines[:-1]):
        usage = piece.get("usage") or usage
        for choice in piece["choices"]:
            text = choice["text"] if "text" in choice else choice["delta"].get("content")
            texts[choice["index"]] = texts.get(choice["index"], "") + (text or "")
    return answer.status_code, {"choices": [{"text": texts[index]} for index in sorted(texts)], "usage": usage}
