"""What the clients count, and the pace of the replicas that have no model."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from benchmarks.ingress_scale.__main__ import Row
from benchmarks.ingress_scale.checks import configuration, read_seconds
from benchmarks.ingress_scale.client import EVENT, count_events, run
from benchmarks.ingress_scale.replica import Clock

EVENTS = b'data: {"a": 1}\n\ndata: {"b": 2}\n\ndata: {"c": 3}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("cut", range(len(EVENTS)))
def test_an_event_is_counted_once_however_it_is_cut(cut: int) -> None:
    first, tail = count_events(b"", EVENTS[:cut])
    second, _ = count_events(tail, EVENTS[cut:])
    assert first + second == 3


def test_an_event_that_comes_byte_by_byte_is_counted() -> None:
    total, tail = 0, b""
    for byte in EVENTS:
        count, tail = count_events(tail, bytes([byte]))
        total += count
    assert total == EVENTS.count(EVENT)


async def test_one_step_lets_all_go_on_and_each_waits_for_its_own_next_one() -> None:
    clock, order = Clock(0.001), []

    async def take(name: str) -> None:
        for _ in range(3):
            await clock.step()
            order.append(name)

    await asyncio.gather(take("a"), take("b"))
    assert order == ["a", "b"] * 3


async def test_who_goes_away_stops_nobody_else() -> None:
    clock = Clock(0.001)
    going, staying = asyncio.create_task(clock.step()), asyncio.create_task(clock.step())
    await asyncio.sleep(0)
    going.cancel()
    await staying


async def test_the_clients_count_whole_answers_and_cut_ones() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"}"):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b'data: {"x"}\n\n' * answered + b"0\r\n\r\n")
            await asyncio.sleep(0.001)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    answered = 4
    whole = await run(port, 2, 4, 0.01, 0.05)
    answered = 3
    cut = await run(port, 2, 4, 0.01, 0.05)
    assert whole["failed"] == 0
    assert whole["tokens"] >= 4
    assert not math.isnan(whole["first_p50_ms"])
    assert cut["failed"] > 0
    server.close()


async def test_a_client_whose_connection_is_closed_between_answers_connects_again() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b'data: {"x"}\n\n' * 4 + b"0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    result = await run(server.sockets[0].getsockname()[1], 1, 4, 0.01, 0.1)
    assert result["failed"] == 0
    assert result["tokens"] > 4
    server.close()


def test_haproxy_takes_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "haproxy.cfg"
    file.write_text(configuration(8000, 8001, 512))
    assert file.read_text().count(" 127.0.0.1:8001 ") == 512
    assert read_seconds(file) > 0


def test_tokens_of_a_core_leave_the_clients_out() -> None:
    row = Row(4, 64, {"tokens": 1000, "seconds": 2.0}, {"replica": 0.4, "HAProxy": 0.1}, 1.0)
    assert row.tokens_per_second == 500
    assert row.tokens_per_core_second == pytest.approx(2000)
