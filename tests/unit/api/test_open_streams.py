"""Comments that keep streams open."""

from __future__ import annotations

import asyncio

import pytest

from ascend_serve.api import open_streams
from ascend_serve.api.open_streams import WAITING, OpenStreams
from tests.patience import PATIENCE_SECONDS


def test_all_streams_get_comments_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_streams, "PERIOD_SECONDS", 0.01)
    got: dict[str, list[bytes]] = {"a": [], "b": []}

    async def scenario() -> None:
        streams = OpenStreams()
        for texts in got.values():
            streams.add(_note(texts))
        keeping = asyncio.create_task(streams.keep_open())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while min(map(len, got.values())) < 3:
                await asyncio.sleep(0.005)
        keeping.cancel()

    asyncio.run(scenario())
    assert {text for texts in got.values() for text in texts} == {WAITING}


def test_a_client_that_does_not_read_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_streams, "PERIOD_SECONDS", 0.05)
    got: list[bytes] = []

    async def never_reads(text: bytes) -> None:
        await asyncio.Event().wait()

    async def broken(text: bytes) -> None:
        raise ConnectionError

    async def scenario() -> None:
        streams = OpenStreams()
        for comment in (never_reads, broken, _note(got)):
            streams.add(comment)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await streams.tell(WAITING)

    asyncio.run(scenario())
    assert got == [WAITING]


def test_an_answer_that_has_ended_gets_none() -> None:
    got: list[bytes] = []
    streams, comment = OpenStreams(), _note(got)
    streams.add(comment)
    streams.discard(comment)
    asyncio.run(streams.tell(WAITING))
    assert got == []


def _note(texts: list[bytes]) -> open_streams.Comment:
    async def comment(text: bytes) -> None:
        texts.append(text)

    return comment
