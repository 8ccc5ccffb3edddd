"""A queue between processes leaves nothing in shared memory by name once it is ready."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from vllm.distributed.device_communicators.shm_broadcast import Handle, MessageQueue

from ascend_serve.engine.queue_memory import forget_names

SHARED_MEMORY = Path("/dev/shm")


def _read(handle: Handle, answers: Connection) -> None:
    queue = MessageQueue.create_from_handle(handle, 0)
    queue.wait_until_ready()
    answers.send(queue.dequeue())


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MessageQueue, "wait_until_ready", MessageQueue.wait_until_ready)


def test_a_queue_goes_on_without_its_name() -> None:
    forget_names()
    forget_names()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    queue = MessageQueue(1, 1)
    name = queue.buffer.shared_memory.name
    assert (SHARED_MEMORY / name).exists()
    reader = context.Process(target=_read, args=(queue.export_handle(), theirs))
    reader.start()
    queue.wait_until_ready()
    assert not (SHARED_MEMORY / name).exists()
    queue.enqueue("hello")
    assert ours.recv() == "hello"
    reader.join()
