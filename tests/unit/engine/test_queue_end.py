"""Readers of vLLM's queues from other nodes, which end with their queue."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from vllm.distributed.device_communicators.shm_broadcast import MessageQueue

from ascend_serve.engine.queue_end import end_with_queue
from tests.patience import PATIENCE_SECONDS


@pytest.fixture
def queues() -> Iterator[tuple[MessageQueue, MessageQueue]]:
    """A writer, and its reader as on another node."""
    writer = MessageQueue(1, 0, max_chunk_bytes=1024, connect_ip="127.0.0.1")
    reader = MessageQueue.create_from_handle(writer.export_handle(), 0)
    end_with_queue(reader)
    with ThreadPoolExecutor(1) as pool:
        ready = pool.submit(writer.wait_until_ready)
        reader.wait_until_ready()
        ready.result(PATIENCE_SECONDS)
    yield writer, reader
    reader.shutdown()
    writer.shutdown()


def test_messages_come_as_ever(queues: tuple[MessageQueue, MessageQueue]) -> None:
    writer, reader = queues
    writer.enqueue("first")
    assert reader.dequeue() == "first"
    writer.enqueue("second")
    assert reader.dequeue(timeout=PATIENCE_SECONDS) == "second"


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.6], ids=["at-once", "soon", "after-a-look"])
def test_patience_ends_as_ever(queues: tuple[MessageQueue, MessageQueue], seconds: float) -> None:
    with pytest.raises(TimeoutError):
        queues[1].dequeue(timeout=seconds)


@pytest.mark.parametrize("timeout", [None, PATIENCE_SECONDS], ids=["without-an-end", "with-patience"])
def test_who_waits_for_a_lost_writer_ends_with_the_queue(
    queues: tuple[MessageQueue, MessageQueue], timeout: float | None
) -> None:
    _, reader = queues
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(reader.dequeue, timeout)
        reader.shutdown()
        with pytest.raises(RuntimeError, match="cancelled"):
            waiting.result(PATIENCE_SECONDS)


def test_a_reader_beside_its_writer_is_left_as_it_is() -> None:
    writer = MessageQueue(1, 1, max_chunk_bytes=1024)
    reader = MessageQueue.create_from_handle(writer.export_handle(), 0)
    socket = reader.local_socket
    end_with_queue(reader)
    assert reader.local_socket is socket
    reader.shutdown()
