"""Collectives of torch.distributed on HCCL, between processes, eager and in graphs."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.cann_sim import control
from tests.cann_sim.build import HERE
from tests.npu import ranks

BIG = 200_001
"""Elements: more than one chunk of shared memory, and not a whole number of them."""


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).npu()


def long(factor: int = 1) -> torch.Tensor:
    return torch.arange(BIG).float().npu() * factor


def is_long(x: torch.Tensor, factor: int = 1) -> bool:
    return torch.equal(x.cpu(), torch.arange(BIG).float() * factor)


def reductions(rank: int) -> dict[str, Any]:
    """All-reduce of both ranks' values in every type and operation that vLLM uses, and of a long tensor."""
    results: dict[str, Any] = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.int32, torch.int64):
        x = torch.tensor([rank + 1, 10 * rank]).to(dtype).npu()
        dist.all_reduce(x)
        results[str(dtype)] = x.cpu().tolist()
    for name, operation in {"max": dist.ReduceOp.MAX, "min": dist.ReduceOp.MIN}.items():
        x = tensor(rank, -rank)
        dist.all_reduce(x, op=operation)
        results[name] = x.cpu().tolist()
    x = long(rank + 1)
    dist.all_reduce(x)
    results["long"] = is_long(x, 3)
    return results


def movements(rank: int) -> dict[str, Any]:
    """What tensor, pipeline and expert parallelism move."""
    results: dict[str, Any] = {}
    parts = [torch.empty(2, device="npu") for _ in range(2)]
    dist.all_gather(parts, tensor(rank, rank))
    results["all_gather"] = [part.cpu().tolist() for part in parts]
    whole = torch.empty(4, device="npu")
    dist.all_gather_into_tensor(whole, tensor(rank, rank + 5))
    results["all_gather_into_tensor"] = whole.cpu().tolist()
    part = torch.empty(2, device="npu")
    dist.reduce_scatter_tensor(part, tensor(1, 2, 3, 4) * (rank + 1))
    results["reduce_scatter"] = part.cpu().tolist()
    x = tensor(rank + 7)
    dist.broadcast(x, 1)
    results["broadcast"] = x.cpu().tolist()
    got = torch.empty(2, device="npu")
    dist.all_to_all_single(got, tensor(10 * rank, 10 * rank + 1))
    results["all_to_all"] = got.cpu().tolist()
    sizes = ([1, 2], [2, 1])
    got = torch.empty(sizes[rank][0] + sizes[rank][1]).npu()
    dist.all_to_all_single(got, tensor(*range(3 * rank, 3 * rank + 3)), sizes[rank], sizes[rank])
    results["all_to_all of uneven parts"] = got.cpu().tolist()
    x = long() if rank == 0 else torch.empty(BIG).npu()
    dist.send(x, 1) if rank == 0 else dist.recv(x, 0)
    results["send"] = is_long(x)
    return results


def at_a_root(rank: int) -> dict[str, Any]:
    """What one rank gets of all, or all get of one."""
    results: dict[str, Any] = {}
    for name, root in {"reduce to the first": 0, "reduce to the second": 1}.items():
        x = tensor(rank + 1, 10 * rank)
        dist.reduce(x, root)
        results[name] = x.cpu().tolist() if rank == root else None
    x = long(rank + 1)
    dist.reduce(x, 1, op=dist.ReduceOp.MAX)
    results["reduce a long one"] = is_long(x, 2) if rank == 1 else None
    for name, root in {"scatter from the first": 0, "scatter from the second": 1}.items():
        x = torch.empty(2).npu()
        dist.scatter(x, [tensor(1, 2), tensor(3, 4)] if rank == root else None, root)
        results[name] = x.cpu().tolist()
    x = torch.empty(BIG).npu()
    dist.scatter(x, [long(1), long(2)] if rank == 0 else None, 0)
    results["scatter long ones"] = is_long(x, rank + 1)
    return results


def in_a_graph(rank: int) -> list[list[float]]:
    """Captured collectives meet the other rank at every replay, and at no time before."""
    x, graph = tensor(1, 2), torch.npu.NPUGraph()
    dist.all_reduce(x)
    with torch.npu.graph(graph):
        y = x * 2
        dist.all_reduce(y)
        whole, part, swapped = (torch.empty(size, device="npu") for size in (4, 2, 2))
        dist.all_gather_into_tensor(whole, y + rank)
        dist.reduce_scatter_tensor(part, whole)
        dist.all_to_all_single(swapped, part + rank)
        dist.broadcast(part, 0)
        everything = torch.cat([whole, part, swapped])
    results = []
    for value in (1.0, 5.0):
        x.fill_(value + rank)
        graph.replay()
        results.append(everything.cpu().tolist())
    return results


def barrier(rank: int) -> bool:
    """Whether a rank comes out of the barrier only when the other one, which is late, has come to it."""
    store = dist.distributed_c10d._get_default_store()
    if rank == 1:
        time.sleep(0.5)
        store.set("arrived", "")
    dist.barrier()
    has_come = store.check(["arrived"])
    # The store ends with the first rank.
    dist.barrier()
    return has_come


def alone(rank: int) -> str:
    """What a rank gets whose peer never comes."""
    x = tensor(1)
    dist.all_reduce(x)
    torch.npu.synchronize()
    if rank == 1:
        return ""
    os.environ["HCCL_EXEC_TIMEOUT"] = "1"
    try:
        dist.all_reduce(x)
        torch.npu.synchronize()
    except RuntimeError as error:
        return str(error)
    return "no error"


def told(rank: int, body: Callable[[int], Any]) -> tuple[Any, set[str]]:
    return body(rank), control.launched()


@cache
def told_by_ranks(body: Callable[[int], Any]) -> list[tuple[Any, set[str]]]:
    return ranks.run(told, [(body,)] * ranks.RANKS)


def results(body: Callable[[int], Any]) -> list[Any]:
    return [result for result, _ in told_by_ranks(body)]


def test_reductions() -> None:
    sums = {f"torch.{name}": [3, 10] for name in ("float32", "bfloat16", "float16", "int32", "int64")}
    expected = {**sums, "max": [1, 0], "min": [0, -1], "long": True}
    assert results(reductions) == [expected, expected]


def test_movements() -> None:
    both = {
        "all_gather": [[0, 0], [1, 1]],
        "all_gather_into_tensor": [0, 5, 1, 6],
        "broadcast": [8],
        "send": True,
    }
    first = {"reduce_scatter": [3, 6], "all_to_all": [0, 10], "all_to_all of uneven parts": [0, 3, 4]}
    second = {"reduce_scatter": [9, 12], "all_to_all": [1, 11], "all_to_all of uneven parts": [1, 2, 5]}
    assert results(movements) == [both | first, both | second]


def test_collectives_with_a_root() -> None:
    first = {
        "reduce to the first": [3, 10],
        "reduce to the second": None,
        "reduce a long one": None,
        "scatter from the first": [1, 2],
        "scatter from the second": [1, 2],
        "scatter long ones": True,
    }
    second = {
        "reduce to the first": None,
        "reduce to the second": [3, 10],
        "reduce a long one": True,
        "scatter from the first": [3, 4],
        "scatter from the second": [3, 4],
        "scatter long ones": True,
    }
    assert results(at_a_root) == [first, second]


def test_collectives_in_graphs() -> None:
    # Gathered, then what the first rank has of their sum, then what both send each other of it.
    first = [[6, 6, 7, 7, 12, 12, 12, 15], [22, 22, 23, 23, 44, 44, 44, 47]]
    second = [[6, 6, 7, 7, 12, 12, 12, 15], [22, 22, 23, 23, 44, 44, 44, 47]]
    assert results(in_a_graph) == [first, second]


def test_a_barrier_waits_for_the_last_one() -> None:
    assert results(barrier) == [True, True]


def test_a_collective_whose_peer_never_comes_times_out() -> None:
    error = results(alone)[0]
    assert "507048" in error
    assert "EI0002: The wait execution of the Notify register times out" in error


def test_every_collective_was_launched() -> None:
    simulated = set(re.findall(r'start\("(\w+)"', Path(HERE / "src/hccl.cpp").read_text(encoding="utf-8")))
    bodies = (reductions, movements, at_a_root, in_a_graph, alone)
    assert simulated - set().union(*(names for body in bodies for _, names in told_by_ranks(body))) == set()
