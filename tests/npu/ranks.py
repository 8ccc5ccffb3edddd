"""Processes of one HCCL group, forked from this one: torch_npu is imported once, its device is not touched before."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from tests.ports import free_port

PATIENCE = 150.0
"""Seconds; a healthy run takes two."""


def run(body: Callable[..., Any], *args: Any, ranks: int = 2, is_over: Callable[[], bool] = lambda: False) -> list[Any]:
    """Run ``body(rank, *args)`` on every rank with ``torch.distributed`` on HCCL, and return what the ranks returned.

    ``body`` runs where the NPU of this process has not been used, so call this from a process that has not. When
    ``is_over`` says so, ranks that have not ended are killed; they returned ``None``.

    Raises:
        AssertionError: A rank failed, or did not end in time.
    """
    context, port = get_context("fork"), free_port()
    pipes = [context.Pipe(duplex=False) for _ in range(ranks)]
    processes = [
        context.Process(target=_rank, args=(rank, ranks, port, pipes[rank][1], lambda rank: body(rank, *args)))
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    try:
        return [_result(rank, pipes[rank][0], is_over) for rank in range(ranks)]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _result(rank: int, pipe: Connection, is_over: Callable[[], bool]) -> Any:
    late = time.monotonic() + PATIENCE
    while not pipe.poll(0.1):
        if is_over():
            return None
        assert time.monotonic() < late, f"rank {rank} has not ended after {PATIENCE} s"
    ok, value = pipe.recv()
    assert ok, f"rank {rank} failed:\n{value}"
    return value


def _rank(rank: int, ranks: int, port: int, pipe: Connection, call: Callable[[int], Any]) -> None:
    import torch
    import torch.distributed as dist

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    try:
        torch.npu.set_device(rank)
        dist.init_process_group("hccl", rank=rank, world_size=ranks)
        pipe.send((True, call(rank)))
    except BaseException:
        pipe.send((False, traceback.format_exc()))
    os._exit(0)
