"""The OpenAI API over a handle: the answers of HTTP, as dictionaries, chunks and one error."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator
from typing import Any

import pytest
from ray.exceptions import RayTaskError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ascend_serve.api.handle_api import HandleApi
from ascend_serve.errors import RequestError

DEADLINE = 60.0


class Application:
    """Says back what it was asked, and waits before the second chunk of a stream until it may go on."""

    def __init__(self) -> None:
        self.may_go_on = asyncio.Event()
        self.has_begun = asyncio.Event()
        self.has_ended = asyncio.Event()
        self.app = Starlette(
            routes=[
                Route("/echo", self.echo, methods=["POST"]),
                Route("/stream", self.stream, methods=["POST"]),
                Route("/broken-stream", self.broken_stream, methods=["POST"]),
                Route("/refuse", self.refuse, methods=["POST"]),
                Route("/text", self.text, methods=["POST"]),
                Route("/raise", self.fail, methods=["POST"]),
            ]
        )

    async def echo(self, request: Request) -> Response:
        return JSONResponse({"asked": await request.json(), "type": request.headers["content-type"]})

    async def stream(self, request: Request) -> Response:
        return StreamingResponse(self._chunks(), media_type="text/event-stream")

    async def _chunks(self) -> AsyncIterator[bytes]:
        self.has_begun.set()
        try:
            # One event in two parts, two events in one part, and a line separator inside of one.
            yield b'data: {"n": '
            yield b"1}\n\n"
            await self.may_go_on.wait()
            yield 'data: {"n": 2, "text": "\u2028"}\n\ndata: {"n": 3}\n\n'.encode()
            yield b"data: [DONE]\n\n"
        finally:
            self.has_ended.set()

    async def broken_stream(self, request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b'data: {"n": 1}\n\n'
            yield b'data: {"error": {"message": "EngineCore encountered an issue.", "code": 500}}\n\n'

        return StreamingResponse(chunks(), media_type="text/event-stream")

    async def refuse(self, request: Request) -> Response:
        error = {"message": "The engine is being replaced; try again.", "type": "ServiceUnavailableError", "code": 503}
        return JSONResponse({"error": error}, 503, {"Retry-After": "7"})

    async def text(self, request: Request) -> Response:
        return PlainTextResponse("Internal Server Error", 500)

    async def fail(self, request: Request) -> Response:
        raise ZeroDivisionError("a defect")


@pytest.fixture
def application() -> Application:
    return Application()


async def ask(application: Application, path: str, **body: Any) -> Any:
    return await asyncio.wait_for(HandleApi(application.app).ask(path, body), DEADLINE)


async def test_an_answer_is_the_body(application: Application) -> None:
    answer = await ask(application, "/echo", prompt="Hellö", n=2)
    assert answer == {"asked": {"prompt": "Hellö", "n": 2}, "type": "application/json"}


async def test_chunks_come_as_they_are_made(application: Application) -> None:
    chunks = await ask(application, "/stream", stream=True)
    assert await asyncio.wait_for(anext(chunks), DEADLINE) == {"n": 1}
    assert not application.has_ended.is_set()
    application.may_go_on.set()
    assert [chunk async for chunk in chunks] == [{"n": 2, "text": "\u2028"}, {"n": 3}]


async def test_who_stops_reading_stops_the_answer(application: Application) -> None:
    chunks = await ask(application, "/stream", stream=True)
    await asyncio.wait_for(anext(chunks), DEADLINE)
    await chunks.aclose()
    assert application.has_ended.is_set()


async def test_who_is_cancelled_stops_the_answer(application: Application) -> None:
    reading = asyncio.create_task(ask(application, "/stream"))
    await asyncio.wait_for(application.has_begun.wait(), DEADLINE)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert application.has_ended.is_set()


REFUSALS = {
    "while the engine restarts": ("/refuse", 503, "The engine is being replaced; try again.", 7),
    "no JSON": ("/text", 500, "Internal Server Error", None),
    "no such way in": ("/missing", 404, "Not Found", None),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_an_error_is_raised(application: Application, refusal: tuple[Any, ...], stream: bool) -> None:
    path, *told = refusal

    async def read() -> None:
        _ = [chunk async for chunk in await ask(application, path, stream=stream)]

    with pytest.raises(RequestError) as raised:
        await read()
    error: Any = RayTaskError("chat", "", pickle.loads(pickle.dumps(raised.value))).as_instanceof_cause()
    assert isinstance(error, RequestError)
    assert [error.status, error.problem, error.retry_after] == told
    assert error.body["error"]["message"] == error.problem


async def test_an_error_in_a_stream_is_raised_after_its_chunks(application: Application) -> None:
    chunks = await ask(application, "/broken-stream", stream=True)
    assert await anext(chunks) == {"n": 1}
    with pytest.raises(RequestError, match="EngineCore encountered an issue") as raised:
        await anext(chunks)
    assert raised.value.status == 500


async def test_a_defect_of_the_application_is_not_swallowed(application: Application) -> None:
    with pytest.raises(ZeroDivisionError, match="a defect"):
        await ask(application, "/raise")


async def test_a_request_is_a_mapping(application: Application) -> None:
    with pytest.raises(TypeError, match="the body of an OpenAI request, not str"):
        await HandleApi(application.app).ask("/echo", "Hello")  # type: ignore[arg-type]
