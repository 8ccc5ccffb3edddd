"""A request that is cancelled ends in vLLM too, whichever way it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive
from vllm.entrypoints.serve.utils.api_utils import with_cancellation

from ascend_serve.api.departure import Departure


class Engine:
    """Answers never, and notes how that ends."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()

    async def answer(self) -> AsyncIterator[str]:
        self.begun.set()
        try:
            while True:
                yield "token"
                await asyncio.sleep(0.01)
        finally:
            self.ended.set()


def application(engine: Engine) -> FastAPI:
    app = FastAPI()

    @app.get("/whole")
    @with_cancellation
    async def whole(body: str, raw_request: Request) -> str:
        return "".join([token async for token in engine.answer()])

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(engine.answer())

    @app.get("/deaf")
    async def deaf() -> str:
        return "".join([token async for token in engine.answer()])

    return app


def scope(path: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "method": "GET",
        "path": path,
        "query_string": b"body=x",
        "headers": [],
    }


def client() -> Receive:
    """Sends its request, and stays."""
    sent: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        return sent.pop() if sent else await asyncio.get_running_loop().create_future()

    return receive


async def send(message: Message) -> None:
    return


@pytest.mark.parametrize("path", ["/whole", "/stream", "/deaf"])
async def test_a_cancelled_request_ends(path: str) -> None:
    engine = Engine()
    request = asyncio.create_task(Departure(application(engine))(scope(path), client(), send))
    await engine.begun.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await engine.ended.wait()


async def test_what_a_client_sends_arrives_in_order() -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.request", "body": b"b", "more_body": False},
        {"type": "http.disconnect"},
    ]
    came: list[Message] = []

    async def receive_all(scope: Any, receive: Any, send: Any) -> None:
        came.extend([await receive() for _ in messages])

    left = iter(messages)

    async def next_message() -> Message:
        return next(left)

    await Departure(receive_all)({"type": "http"}, next_message, send)
    assert came == messages


async def test_an_error_of_the_application_is_its_own() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        await Departure(failing)({"type": "http"}, client(), send)
