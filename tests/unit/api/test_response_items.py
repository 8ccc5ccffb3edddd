"""The items of a response, as vLLM's own application takes them."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

from ascend_serve.api.response_items import ResponseItems

MESSAGE = {"role": "user", "content": "Hello"}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "{}"}
REASONING = {"type": "reasoning", "id": "r1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
NAMELESS = {"type": "reasoning", "summary": []}
NONE: dict[str, Any] = {}


@pytest.fixture(scope="module")
def items() -> ResponseItems:
    app = FastAPI()

    @app.post("/v1/responses")
    async def answer(request: ResponsesRequest) -> None:
        return

    return ResponseItems(app)


@pytest.mark.parametrize("item", [MESSAGE, CALL, OUTPUT, REASONING, NAMELESS], ids=lambda item: str(item)[:30])
def test_items_of_a_conversation(items: ResponseItems, item: dict[str, Any]) -> None:
    ResponsesRequest.model_validate({"input": [item] * 20})
    assert items.refusal([item] * 20) is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param([MESSAGE] * 20 + [NONE], "items 16 to 23", id="the last"),
        pytest.param([NONE] * 2000, "items 0 to 7", id="all"),
        pytest.param([NONE] * 8, None, id="a few, of which the application tells"),
    ],
)
def test_items_that_are_none(items: ResponseItems, given: list[Any], told: str | None) -> None:
    assert (items.refusal(given) or "") == (
        f"input: one of the {told} is none that a response can have" if told else ""
    )


def test_an_application_without_responses() -> None:
    assert ResponseItems(FastAPI()).refusal([NONE] * 20) is None
