"""npugraph_ex of the emulated NPU: a compiled graph is recorded as one launch, and replays like any other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import fx

from ascend_serve.emulated.launches import LaunchCount
from ascend_serve.emulated.npu_graph import NPUGraph, graph
from ascend_serve.emulated.npugraph_ex import compile_graph, graph_launches

Function = Callable[[torch.Tensor], torch.Tensor]

WEIGHT = torch.arange(16.0).reshape(4, 4)
calls: list[int] = []


@torch.library.custom_op("ascend_serve_tests::note", mutates_args=())
def note(x: torch.Tensor) -> torch.Tensor:
    calls.append(len(x))
    return x * 2


@note.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def function(x: torch.Tensor) -> torch.Tensor:
    return note((x @ WEIGHT).relu() + 1).sum(-1)


@pytest.fixture(scope="module")
def compiled() -> Function:
    """As vLLM holds it: traced by Dynamo before, so that a call is a call of the backend's result."""
    return compile_graph(fx.symbolic_trace(function), [torch.ones(3, 4)])


@pytest.fixture
def captured(compiled: Function) -> tuple[NPUGraph, torch.Tensor, torch.Tensor]:
    given = torch.ones(3, 4)
    npu_graph = NPUGraph()
    calls.clear()
    with torch.inference_mode(), graph(npu_graph):
        result = compiled(given)
    return npu_graph, given, result


def test_a_capture_runs_nothing(captured: tuple[NPUGraph, torch.Tensor, torch.Tensor]) -> None:
    _, _, result = captured
    assert calls == []
    assert result.isnan().all()


def test_each_replay_computes_from_what_is_there(captured: tuple[NPUGraph, torch.Tensor, torch.Tensor]) -> None:
    npu_graph, given, result = captured
    for value in (1.0, -2.0, 0.5):
        given.fill_(value)
        npu_graph.replay()
        assert torch.equal(result, function(given))


def test_a_graph_of_compiled_and_other_operators(compiled: Function) -> None:
    given = torch.ones(3, 4)
    npu_graph = NPUGraph()
    with torch.inference_mode(), graph(npu_graph):
        result = compiled(given * 3) - 1
    given.fill_(2.0)
    npu_graph.replay()
    assert torch.equal(result, function(given * 3) - 1)


def test_outside_of_a_capture_it_launches_what_it_was_traced_from(compiled: Function) -> None:
    given = torch.ones(3, 4)
    with torch.inference_mode():
        with graph_launches() as launches:
            compiled(given)
        with LaunchCount() as count:
            function(given)
    assert launches.operators == count.operators > 0
