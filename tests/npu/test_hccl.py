"""Collectives of torch.distributed on HCCL, between processes, eager and in graphs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

ROOT = Path(__file__).parents[2]
BIG = 200_001
"""Elements: more than one chunk of shared memory, and not a whole number of them."""


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).npu()


def reductions(rank: int) -> dict[str, Any]:
    """All-reduce of both ranks' values in every type and operation that vLLM uses, and of a long tensor."""
    results = {}
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.int32, torch.int64):
        x = torch.tensor([rank + 1, 10 * rank]).to(dtype).npu()
        dist.all_reduce(x)
        results[str(dtype)] = x.cpu().tolist()
    for name, operation in {"max": dist.ReduceOp.MAX, "min": dist.ReduceOp.MIN}.items():
        x = tensor(rank, -rank)
        dist.all_reduce(x, op=operation)
        results[name] = x.cpu().tolist()
    long = torch.arange(BIG).float().npu() * (rank + 1)
    dist.all_reduce(long)
    results["long"] = bool(torch.equal(long.cpu(), torch.arange(BIG).float() * 3))
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
    long = torch.arange(BIG).float().npu() if rank == 0 else torch.empty(BIG).npu()
    dist.send(long, 1) if rank == 0 else dist.recv(long, 0)
    results["send"] = bool(torch.equal(long.cpu(), torch.arange(BIG).float()))
    dist.barrier()
    return results


def in_a_graph(rank: int) -> list[list[float]]:
    """A captured collective meets the other rank at every replay, and at no time before."""
    x, graph = tensor(1, 2), torch.npu.NPUGraph()
    dist.all_reduce(x)
    with torch.npu.graph(graph):
        y = x * 2
        dist.all_reduce(y)
        whole = torch.empty(4, device="npu")
        dist.all_gather_into_tensor(whole, y + rank)
    results = []
    for value in (1.0, 5.0):
        x.fill_(value + rank)
        graph.replay()
        results.append(whole.cpu().tolist())
    return results


def alone(rank: int) -> str:
    """What a rank gets whose peer never comes."""
    x = tensor(1)
    dist.all_reduce(x)
    torch.npu.synchronize()
    if rank == 1:
        return ""
    try:
        dist.all_reduce(x)
        torch.npu.synchronize()
    except RuntimeError as error:
        return str(error)
    return "no error"


PROGRAMS = {body.__name__: body for body in (reductions, movements, in_a_graph, alone)}


@pytest.fixture(scope="module")
def results() -> dict[str, list[Any]]:
    """Every program on two ranks, in a process that forks them before it has used an NPU."""
    program = (
        "import json; from tests.npu import ranks, test_hccl as t;"
        "print(json.dumps({name: ranks.run(body) for name, body in t.PROGRAMS.items()}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"HCCL_EXEC_TIMEOUT": "3"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=200,
        check=True,
    )
    parsed: dict[str, list[Any]] = json.loads(done.stdout.splitlines()[-1])
    return parsed


def test_reductions(results: dict[str, list[Any]]) -> None:
    expected = {f"torch.{name}": [3, 10] for name in ("float32", "bfloat16", "float16", "int32", "int64")}
    expected |= {"max": [1, 0], "min": [0, -1], "long": True}
    assert results["reductions"] == [expected, expected]


def test_movements(results: dict[str, list[Any]]) -> None:
    both = {
        "all_gather": [[0, 0], [1, 1]],
        "all_gather_into_tensor": [0, 5, 1, 6],
        "broadcast": [8],
        "send": True,
    }
    first = {"reduce_scatter": [3, 6], "all_to_all": [0, 10], "all_to_all of uneven parts": [0, 3, 4]}
    second = {"reduce_scatter": [9, 12], "all_to_all": [1, 11], "all_to_all of uneven parts": [1, 2, 5]}
    assert results["movements"] == [both | first, both | second]


def test_collectives_in_graphs(results: dict[str, list[Any]]) -> None:
    assert results["in_a_graph"] == [[[6, 6, 7, 7], [22, 22, 23, 23]]] * 2


def test_a_collective_whose_peer_never_comes_times_out(results: dict[str, list[Any]]) -> None:
    assert "507048" in results["alone"][0]
    assert "EI0002: The wait execution of the Notify register times out" in results["alone"][0]
