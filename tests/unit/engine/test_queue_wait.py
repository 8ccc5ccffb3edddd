"""Readers of vLLM's queues that sleep where cores are few."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.distributed.device_communicators.shm_broadcast import MessageQueue

from ascend_serve.engine.queue_wait import has_few_cores, spare_cores


@pytest.mark.parametrize(
    ("cores", "ranks", "few"),
    [
        pytest.param(2, 1, True, id="a rank, its engine core and the replica on two"),
        pytest.param(4, 1, False, id="one for each and one more"),
        pytest.param(4, 2, True, id="two ranks on four"),
        pytest.param(2, 2, False, id="ranks on every core"),
        pytest.param(192, 8, False, id="a host with eight NPUs"),
    ],
)
def test_cores_are_counted(cores: int, ranks: int, few: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)))
    assert has_few_cores(ranks) is few


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[MessageQueue, MessageQueue]]:
    """A queue of vLLM's and its reader, on a machine with few cores."""
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    writer = MessageQueue(1, 1, max_chunk_bytes=1024)
    queue = MessageQueue.create_from_handle(writer.export_handle(), 0)
    spare_cores(queue, 1)
    yield writer, queue
    queue.shutdown()


@pytest.mark.parametrize(
    ("idle_seconds", "slept", "waited_ms"),
    [
        pytest.param(0.0, [1e-4], [], id="a message is expected, so it looks again soon"),
        pytest.param(2.0, [], [5000], id="nobody asks, so it waits to be notified"),
    ],
)
def test_a_reader_sleeps(
    reader: tuple[MessageQueue, MessageQueue],
    idle_seconds: float,
    slept: list[float],
    waited_ms: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    condition = reader[1]._spin_condition
    sleeps: list[float] = []
    polls: list[int] = []

    def poll(timeout: int) -> list[int]:
        polls.append(timeout)
        return []

    monkeypatch.setattr(condition, "poller", SimpleNamespace(poll=poll))
    monkeypatch.setattr("ascend_serve.engine.queue_wait.time.sleep", sleeps.append)
    condition.last_read = time.monotonic() - idle_seconds
    condition.wait(timeout_ms=5000)
    assert (sleeps, polls) == (slept, waited_ms)


def test_messages_that_follow_each_other_closely_all_come(reader: tuple[MessageQueue, MessageQueue]) -> None:
    writer, queue = reader
    received: list[Any] = []
    for message in range(50):
        writer.enqueue(message)
        received.append(queue.dequeue(timeout=60))
    assert received == list(range(50))


def test_where_cores_are_many_vllm_waits_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)))
    writer = MessageQueue(1, 1, max_chunk_bytes=1024)
    queue = MessageQueue.create_from_handle(writer.export_handle(), 0)
    before = queue._spin_condition.wait
    spare_cores(queue, 1)
    assert queue._spin_condition.wait == before
    queue.shutdown()
