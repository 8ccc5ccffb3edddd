"""The ranks of one HCCL group, each a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from tests.npu.forked import Forked
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port

RANKS = 2


def run(
    body: Callable[..., Any],
    arguments: Sequence[tuple[Any, ...]] = ((),) * RANKS,
    is_over: Callable[[], bool] = lambda: False,
    patience: float = PATIENCE_SECONDS,
) -> list[Any]:
    """Run ``body(rank, *arguments[rank])`` on every rank with ``torch.distributed`` on HCCL: what each returned.

    When ``is_over`` says so, ranks that have not ended are killed; they returned ``None``. ``patience`` is in seconds.

    Raises:
        AssertionError: A rank failed, or did not end in time.
    """
    port = free_port()
    ranks = [Forked(_rank, rank, len(arguments), port, body, own) for rank, own in enumerate(arguments)]
    try:
        return [rank.result(is_over, patience) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()


def _rank(rank: int, ranks: int, port: int, body: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    import torch
    import torch.distributed as dist

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.npu.set_device(rank)
    dist.init_process_group("hccl", rank=rank, world_size=ranks)
    return body(rank, *arguments)
