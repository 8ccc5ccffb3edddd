"""Large bodies of several clients, which are looked at on one event loop."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.types import Message, Scope

from ascend_serve.api.admission import BodyGuard
from ascend_serve.api.clients import CLIENT
from ascend_serve.api.request_limits import RequestLimits
from ascend_serve.config.schema import LimitsConfig

LARGE = json.dumps({"prompt": "x" * 2**15}).encode()
SMALL = json.dumps({"prompt": "x"}).encode()


class Looking(RequestLimits):
    """Notes whose body is looked at."""

    def refusal(self, body: bytes) -> str | None:
        seen.append("large" if body == LARGE else "small")
        return super().refusal(body)


seen: list[str] = []


def test_those_of_one_client_come_one_after_another_and_others_between_them() -> None:
    seen.clear()
    asyncio.run(_ask([("greedy", LARGE)] * 20 + [("other", SMALL), ("another", LARGE)]))
    assert seen.index("small") == 0
    assert seen.count("large") == 21


def test_a_client_that_goes_leaves_its_place() -> None:
    async def scenario() -> None:
        guard = _guard()
        asked = [asyncio.create_task(_answer(guard, "greedy", LARGE)) for _ in range(3)]
        await asyncio.sleep(0)
        asked[1].cancel()
        await asyncio.wait(asked)
        assert [task.cancelled() for task in asked] == [False, True, False]

    asyncio.run(scenario())


async def _ask(requests: list[tuple[str, bytes]]) -> None:
    guard = _guard()
    await asyncio.gather(*(_answer(guard, client, body) for client, body in requests))


def _guard() -> BodyGuard:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        return

    return BodyGuard(app, Looking(2**20, LimitsConfig(), 4096))


async def _answer(guard: BodyGuard, client: str, body: bytes) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        return

    headers = [(b"content-type", b"application/json")]
    await guard({"type": "http", "path": "/", "headers": headers, CLIENT: client}, receive, send)
