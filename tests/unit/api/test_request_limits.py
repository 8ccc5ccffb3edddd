"""What one request may ask for, and by which limit more is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ascend_serve.api.request_limits import RequestLimits
from ascend_serve.config.schema import LimitsConfig

MODEL_TOKENS = 4096
TEXT_BYTES = 32 * MODEL_TOKENS
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBO" * TEXT_BYTES}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "UklG" * TEXT_BYTES, "format": "wav"}}


def refusal(request: Any, **limits: int) -> str | None:
    body = json.dumps(request).encode()
    return RequestLimits(len(body), LimitsConfig(**limits), MODEL_TOKENS).refusal(body)


def user(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param({"prompt": "Hello", "n": 128, "max_tokens": 1000}, id="as many answers as OpenAI gives"),
        pytest.param({"prompt": ["a"] * 256, "max_tokens": 4096}, id="as many prompts, as long as the model's"),
        pytest.param({"prompt": [1] * 4000, "n": 2}, id="a prompt in tokens"),
        pytest.param({"prompt": ["a"] * 256}, id="answers of the usual length"),
        pytest.param({"input": ["a"] * 2048}, id="texts to embed"),
        pytest.param({**user("Hello"), "n": 8}, id="a chat that says no length"),
        pytest.param({"messages": [[{"role": "user"}]] * 256}, id="a batch of chats"),
        pytest.param({"messages": [{"role": "user"}] * 1000}, id="a long chat"),
        pytest.param({"input": [[1] * 4000] * 9}, id="prompts in tokens to embed"),
        pytest.param({"input": [{"role": "user"}] * 1000}, id="items of a response"),
        pytest.param({"prompt": "a", "logit_bias": {str(token): 0.5 for token in range(9000)}}, id="many biases"),
        pytest.param({"prompt": "a", "allowed_token_ids": [*range(9000)]}, id="many tokens that may be"),
        pytest.param({**user("a"), "top_logprobs": 20, "max_tokens": 4096}, id="all logprobs of a long answer"),
        pytest.param({**user("a"), "n": 8, "top_logprobs": 5}, id="logprobs of a chat that says no length"),
        pytest.param(
            {"prompt": "a", "n": 128, "logprobs": 20, "max_tokens": 2000, "stream": True}, id="logprobs in a stream"
        ),
        pytest.param({"prompt": ["text"] * 8, "prompt_logprobs": 20}, id="logprobs of short prompts"),
        pytest.param({"prompt": "a", "logprobs": True}, id="logprobs of another API"),
        pytest.param(user([IMAGE, AUDIO]), id="an image and audio"),
        pytest.param({"structured_outputs": {"choice": ["a"] * 1000}}, id="choices"),
        pytest.param({"n": "two", "max_tokens": "many", "prompt": {}}, id="wrong types"),
        pytest.param({"n": True, "max_tokens": None, "prompt": []}, id="odd types"),
        pytest.param([1], id="no object"),
    ],
)
def test_what_one_request_may_ask_for(request_: Any) -> None:
    assert refusal(request_) is None


@pytest.mark.parametrize(
    ("request_", "limit"),
    [
        pytest.param({"prompt": ["a"] * 257}, "prompts x n: 257; one request may have 256", id="prompts"),
        pytest.param({"prompt": ["a"] * 3, "n": 100}, "prompts x n: 300", id="prompts x n"),
        pytest.param({"prompt": [[1]] * 257}, "serving.limits.sequences", id="prompts in tokens"),
        pytest.param({"messages": [[{"role": "user"}]] * 257}, "serving.limits.sequences", id="a batch of chats"),
        pytest.param({"input": ["a"] * 2049}, "one request may have 2048 prompts", id="texts to embed"),
        pytest.param({"prompt": [[]] * 2049}, "one request may have 2048 prompts", id="empty prompts"),
        pytest.param({"prompt": [1.5] * 2049}, "one request may have 2048 prompts", id="numbers that are no tokens"),
        pytest.param({"messages": [{}]}, "messages: each is an object with a role", id="no message"),
        pytest.param({"messages": [[{"role": "user"}], [7]]}, "messages: each is", id="no message in a batch"),
        pytest.param({"prompt": [1, "a"]}, "prompt: a text, tokens, or a list", id="text among tokens"),
        pytest.param({"prompt": [[1], [1, "a"]]}, "prompt: a text, tokens", id="text among tokens in a list"),
        pytest.param({"input": ["a", {}]}, "input: a text, tokens, or a list", id="text among items"),
        pytest.param({"prompt": [1.5]}, "prompt: a text, tokens, or a list", id="tokens that are none"),
        pytest.param({"prompt": "a", "logit_bias": {str(n): "x" for n in range(2049)}}, "2048 prompts", id="biases"),
        pytest.param(
            {"prompt": "a", "n": 8, "logprobs": 20, "max_tokens": 1000},
            "prompts x n x tokens x logprobs: 160000; one request may have 100000 (serving.limits.logprobs)",
            id="logprobs of answers",
        ),
        pytest.param({**user("a"), "top_logprobs": 20, "n": 2, "ignore_eos": True}, "logprobs", id="of long answers"),
        pytest.param({"prompt": [[1] * 4000] * 2, "prompt_logprobs": 20}, "limits.logprobs", id="logprobs of prompts"),
        pytest.param({"prompt": ["a" * 8000], "prompt_logprobs": 20}, "limits.logprobs", id="logprobs of one prompt"),
        pytest.param({"prompt": "a" * 3000, "prompt_logprobs": 20}, "tokens x logprobs: 120000", id="of one prompt"),
        pytest.param({"prompt": "text" * 4000, "n": 2, "echo": True, "logprobs": 20}, "limits.logprobs", id="echoed"),
        pytest.param({**user("text" * 4000), "n": 2, "prompt_logprobs": 20}, "limits.logprobs", id="of a chat"),
        pytest.param({"messages": [{}] * 2049}, "2048 prompts or messages, with their parts", id="messages"),
        pytest.param({"messages": [[{}] * 100] * 21}, "2048 prompts or messages", id="messages of a batch"),
        pytest.param({"input": [{}] * 2049}, "2048 prompts or messages", id="items of a response"),
        pytest.param(user([{"type": "text", "text": "a"}] * 1500), "with their parts", id="parts of a message"),
        pytest.param(user([1] * 2048), "with their parts", id="parts that are numbers"),
        pytest.param({"prompt": "a", "stop": [["a"]] * 2049}, "2048 prompts or messages", id="stop strings"),
        pytest.param(
            {"prompt": "a", "n": 128, "max_tokens": 3000},
            "prompts x n x max_tokens: 384000; one request may have 300000 (serving.limits.tokens)",
            id="tokens",
        ),
        pytest.param({**user("a"), "n": 128}, "serving.limits.tokens", id="answers of any length"),
        pytest.param({**user("a"), "n": 128, "max_completion_tokens": 3000}, "limits.tokens", id="of that length"),
        pytest.param(
            {"prompt": "x" * TEXT_BYTES}, f"one request may have {TEXT_BYTES} (serving.limits.text_bytes)", id="a text"
        ),
        pytest.param({"prompt": "data:" + "x" * TEXT_BYTES}, "text_bytes", id="a text like an image"),
        pytest.param(user([IMAGE, {"type": "text", "text": "a b " * TEXT_BYTES}]), "text_bytes", id="beside an image"),
        pytest.param({"structured_outputs": {"choice": ["a"] * 1001}}, "grammar_values", id="choices"),
        pytest.param({"structured_outputs": {"regex": "a" * 2**16}}, "grammar_bytes", id="a regular expression"),
        pytest.param(
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": ["a"] * 1001}}}},
            "values of a choice or an enumeration: 1001; one request may have 1000 (serving.limits.grammar_values)",
            id="an enumeration",
        ),
        pytest.param(
            {"structured_outputs": {"json": json.dumps({"enum": ["a"] * 1001})}}, "grammar_values", id="as text"
        ),
        pytest.param({"structured_outputs": "x"}, "not an object", id="structured outputs that are no object"),
    ],
)
def test_what_it_may_not_is_refused_by_the_name_of_the_limit(request_: Any, limit: str) -> None:
    told = refusal(request_, tokens=300_000 if "tokens" in limit else 2**20)
    assert told is not None
    assert limit in told


def test_a_limit_on_text_is_that_of_the_user() -> None:
    assert refusal({"prompt": "x" * TEXT_BYTES}, text_bytes=2 * TEXT_BYTES) is None
    assert refusal({"prompt": "x" * 100}, text_bytes=50) is not None


def test_a_short_model_takes_texts_of_some_length_all_the_same() -> None:
    """What is too long for it has an answer that tells its tokens."""
    assert RequestLimits(0, LimitsConfig(), model_tokens=16).text_bytes == 2**16


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
_NAMES = ("prompt", "input", "messages", "n", "max_tokens", "logprobs", "prompt_logprobs", "echo", "structured_outputs")


@given(request_=st.fixed_dictionaries({}, optional=dict.fromkeys(_NAMES, _JSON)))
@settings(deadline=None)
def test_whatever_is_sent_gets_an_answer(request_: dict[str, Any]) -> None:
    told = refusal(request_)
    assert told is None or told.strip()
