"""What clients see at the gate, with the engine there and away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse, StreamingResponse

from ascend_serve.api.open_streams import REPLACED as COMMENT
from ascend_serve.api.open_streams import OpenStreams
from ascend_serve.replica.gate import Gate

TOKEN = 'data: {"choices": []}\n\n'
ERROR = 'data: {"error": {"code": 500}}\n\n'
DONE = "data: [DONE]\n\n"
BLAME = 'event: error\ndata: {"type": "error", "error": {"message": "1 validation error for Chunk"}}\n\n'
REPLACED = "The engine is being replaced; try again."


@dataclass
class Engine:
    """Stands in for the supervisor: the gate asks it for these alone."""

    is_serving: bool = True
    retry_after: int = 12
    recovering_since: float | None = None
    streams: OpenStreams = field(default_factory=OpenStreams)


class Application:
    """An application whose engine may be lost in the middle of an answer."""

    def __init__(self, engine: Engine) -> None:
        self.app = app = FastAPI()
        self._engine = engine
        app.add_api_route("/health", lambda: "well")
        app.add_api_route("/metrics", lambda: "numbers")
        app.add_api_route("/refused", lambda: JSONResponse({"error": "too long"}, 400))
        app.add_api_route("/lost", self.lost)
        app.add_api_route("/raises", self.raises)
        app.add_api_route("/broken", lambda: JSONResponse({"error": "a bug"}, 500))
        app.add_api_route("/stream", self.stream)
        app.add_api_route("/stream-lost", self.stream_lost)
        for path in ("/v1/responses", "/v1/completions"):
            app.add_api_route(path, self.stream_raises)
        app.add_api_route("/v1/messages", self.stream_blames)
        app.add_api_route("/stream-waits", self.stream_waits)
        app.add_api_route("/waits", self.waits)

    async def lost(self) -> JSONResponse:
        self._engine.is_serving = False
        return JSONResponse({"error": {"code": 500}}, 500)

    async def raises(self) -> None:
        self._engine.is_serving = False
        raise RuntimeError("no engine")

    async def stream(self) -> StreamingResponse:
        return _events(TOKEN, DONE)

    async def stream_lost(self) -> StreamingResponse:
        return _events(TOKEN, ERROR, DONE)

    async def stream_waits(self) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            yield TOKEN
            await self._engine.streams.tell(COMMENT)
            yield DONE

        return StreamingResponse(body(), media_type="text/event-stream")

    async def waits(self) -> JSONResponse:
        await self._engine.streams.tell(COMMENT)
        return JSONResponse({"text": "whole"})

    async def stream_raises(self) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            yield TOKEN
            self._engine.is_serving = False
            raise RuntimeError("no engine")

        return StreamingResponse(body(), media_type="text/event-stream")

    async def stream_blames(self) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            yield TOKEN
            self._engine.is_serving = False
            yield BLAME

        return StreamingResponse(body(), media_type="text/event-stream")


def _events(*events: str) -> StreamingResponse:
    async def body() -> AsyncIterator[str]:
        for event in events:
            yield event

    return StreamingResponse(body(), media_type="text/event-stream")


def get(path: str, engine: Engine) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Gate(Application(engine).app, engine))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://gate") as client:
            return await client.get(path)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("path", "status"), [("/health", 200), ("/metrics", 200), ("/refused", 400), ("/broken", 500), ("/nowhere", 404)]
)
def test_answers_pass_while_the_engine_is_there(path: str, status: int) -> None:
    assert get(path, Engine()).status_code == status


@pytest.mark.parametrize("path", ["/health", "/stream", "/refused", "/nowhere"])
def test_everything_that_needs_the_engine_is_refused_while_it_is_away(path: str) -> None:
    response = get(path, Engine(is_serving=False))
    assert response.status_code == response.json()["error"]["code"] == 503
    assert response.headers["Retry-After"] == "12"


def test_metrics_are_there_while_the_engine_is_away() -> None:
    assert get("/metrics", Engine(is_serving=False)).text == '"numbers"'


@pytest.mark.parametrize("path", ["/lost", "/raises"])
def test_an_answer_that_the_engine_is_lost_under_is_worth_another_try(path: str) -> None:
    response = get(path, Engine())
    assert response.status_code == 503
    assert "Retry-After" in response.headers


@pytest.mark.parametrize(
    ("path", "text"), [("/stream", TOKEN + DONE), ("/stream-lost", TOKEN + ERROR)], ids=["whole", "lost"]
)
def test_only_a_whole_stream_ends_with_done(path: str, text: str) -> None:
    assert get(path, Engine()).text == text


def test_a_stream_that_waits_for_an_engine_has_a_comment_between_its_events() -> None:
    engine = Engine()
    assert get("/stream-waits", engine).text == TOKEN + COMMENT.decode() + DONE
    asyncio.run(engine.streams.tell(COMMENT))


def test_an_answer_that_is_no_stream_waits_without_a_word() -> None:
    assert get("/waits", Engine()).json() == {"text": "whole"}


def test_health_tells_since_when_there_is_no_engine() -> None:
    engine = Engine(is_serving=False, recovering_since=1000.5)
    assert get("/health", engine).json()["recovering_since"] == 1000.5
    assert "recovering_since" not in get("/stream", engine).json()


@pytest.mark.parametrize(
    ("path", "name", "error"),
    [
        pytest.param("/v1/completions", "", {"error": {"message": REPLACED, "code": 503}}, id="completions"),
        pytest.param(
            "/v1/responses",
            "event: error\n",
            {"type": "error", "message": REPLACED, "code": "server_error", "sequence_number": 1},
            id="responses",
        ),
        pytest.param(
            "/v1/messages", "event: error\n", {"type": "error", "error": {"message": REPLACED}}, id="messages"
        ),
    ],
)
def test_a_stream_that_the_engine_is_lost_under_ends_with_the_error_of_its_api(
    path: str, name: str, error: dict[str, Any]
) -> None:
    whole = get(path, Engine()).text
    assert whole.startswith(f"{TOKEN}{name}data: ")
    _assert_has(json.loads(whole.removeprefix(f"{TOKEN}{name}data: ")), error)


def test_anthropics_clients_are_refused_in_their_own_words() -> None:
    response = get("/v1/messages", Engine(is_serving=False))
    assert response.status_code == 503
    assert response.json() == {"type": "error", "error": {"type": "overloaded_error", "message": REPLACED}}


def _assert_has(told: dict[str, Any], expected: dict[str, Any]) -> None:
    for key, value in expected.items():
        if isinstance(value, dict):
            _assert_has(told[key], value)
        else:
            assert told[key] == value
