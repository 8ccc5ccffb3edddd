"""Collectives in a graph: a capture records them, each replay runs them to their end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from ascend_serve.emulated.npu_graph import NPUGraph, graph


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("asynchronous", [False, True], ids=["waited for", "waited for later"])
def test_a_collective_is_recorded_and_replayed(asynchronous: bool) -> None:
    x, gathered = torch.ones(3), torch.zeros(3)
    npu_graph = NPUGraph()
    with torch.inference_mode(), graph(npu_graph):
        work = dist.all_gather_into_tensor(gathered, x * 2, async_op=asynchronous)
        if asynchronous:
            work.wait()
        output = gathered + 1
    assert gathered.tolist() == [0.0] * 3  # a rank captures without its peers
    x.fill_(5)
    npu_graph.replay()
    assert (gathered.tolist(), output.tolist()) == ([10.0] * 3, [11.0] * 3)


@pytest.mark.usefixtures("group")
def test_an_all_reduce_in_place() -> None:
    x = torch.ones(3)
    npu_graph = NPUGraph()
    with torch.inference_mode(), graph(npu_graph):
        partial = x * 2
        dist.all_reduce(partial)
        output = partial + 1
    x.fill_(4)
    npu_graph.replay()
    assert output.tolist() == [9.0] * 3
