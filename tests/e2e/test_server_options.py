"""Options of vLLM's API server below ``vllm:``, on a real server: tools, chat template, origins, details of usage."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.command import Command
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.slow

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
UNIT = {"type": "object", "properties": {"unit": {"enum": ["c", "f"]}}, "required": ["unit"]}
# Only the arguments of a strict tool are held to its schema.
TOOL = {
    "type": "function",
    "function": {"name": "set_unit", "strict": True, "parameters": UNIT | {"additionalProperties": False}},
}


@pytest.fixture(scope="module")
def http(start: Callable[..., Command], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    template = tmp_path_factory.mktemp("template") / "ours.jinja"
    Path(template).write_text(TEMPLATE)
    command = start(
        "vllm.enable_auto_tool_choice=true",
        "vllm.tool_call_parser=hermes",
        "vllm.structured_outputs_config={backend: xgrammar, disable_any_whitespace: true}",
        f"vllm.chat_template={template}",
        "vllm.allowed_origins=[https://example.org]",
        "vllm.enable_prompt_tokens_details=true",
    )
    command.wait_for("curl ")
    with httpx.Client(base_url=f"http://127.0.0.1:{command.port}", timeout=PATIENCE_SECONDS) as client:
        yield client
    assert command.end(signal.SIGINT) == 130


def chat(http: httpx.Client, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hello"}]
    answer = http.post("/v1/chat/completions", json={"model": "demo", "messages": messages, **body})
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def test_a_tool_is_called(http: httpx.Client) -> None:
    choice = {"type": "function", "function": {"name": "set_unit"}}
    answer = chat(http, tools=[TOOL], tool_choice=choice, max_tokens=200, temperature=0)
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "set_unit"
    assert json.loads(call["function"]["arguments"])["unit"] in ("c", "f")


def test_a_tool_may_be_chosen(http: httpx.Client) -> None:
    answer = chat(http, tools=[TOOL], tool_choice="auto", max_tokens=4, temperature=0)
    assert answer["choices"][0]["finish_reason"] == "length"


def test_the_chat_template_is_ours(http: httpx.Client) -> None:
    plain = http.post("/v1/completions", json={"model": "demo", "prompt": "Hello", "max_tokens": 1}).json()
    assert chat(http, max_tokens=1)["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"]


def test_origins_that_are_named_may_ask(http: httpx.Client) -> None:
    allowed = {
        origin: http.get("/v1/models", headers={"Origin": origin}).headers.get("access-control-allow-origin")
        for origin in ("https://example.org", "https://example.com")
    }
    assert allowed == {"https://example.org": "https://example.org", "https://example.com": None}


def test_usage_has_details_of_the_prompt(http: httpx.Client) -> None:
    prompt = {"model": "demo", "prompt": "once upon a time " * 8, "max_tokens": 1}
    answers = [http.post("/v1/completions", json=prompt).json() for _ in range(2)]
    assert answers[1]["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
