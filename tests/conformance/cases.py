"""What is asked of an ``NPUGraph``: each case returns what it saw, in plain types."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from typing import Any

import torch

from tests.conformance.backends import Backend

Observation = Any
Case = Callable[[Backend], Observation]


def error_of(call: Callable[[], object]) -> list[str] | None:
    """The error of ``call``, then those that it was raised during, as types and CANN codes; ``None`` without one."""
    try:
        call()
    except Exception as error:
        chain: list[str] = []
        link: BaseException | None = error
        while link is not None:
            code = re.search(r"error code is (\d{6})", str(link))
            chain.append(" ".join([type(link).__name__, *(code.groups() if code else ())]))
            link = link.__context__
        return chain
    return None


def captured(npu: Backend, body: Callable[[], Any]) -> tuple[Any, Any]:
    """A graph of ``body``, and what ``body`` returned."""
    graph = npu.npu_graph()
    with npu.graph(graph):
        output = body()
    return graph, output


def capture(npu: Backend, graph: Any, body: Callable[[], object]) -> None:
    with npu.graph(graph):
        body()


def ones(npu: Backend) -> torch.Tensor:
    return torch.ones(2, device=npu.device)


def nothing_runs_at_capture(npu: Backend) -> Observation:
    counter = torch.zeros(1, device=npu.device)
    captured(npu, lambda: counter.add_(1))
    return counter.item()


def views_are_not_written_at_capture(npu: Backend) -> Observation:
    base = torch.zeros(2, 2, device=npu.device)
    captured(npu, lambda: base[1].copy_(base[0] + 1))
    return base.tolist()


def outputs_are_computed_at_capture(npu: Backend) -> Observation:
    x = ones(npu)
    _, y = captured(npu, lambda: x + 1)
    return y.tolist() == [2.0, 2.0]


def every_replay_computes_anew(npu: Backend) -> Observation:
    counter = torch.zeros(1, device=npu.device)
    graph, _ = captured(npu, lambda: counter.add_(1))
    seen = []
    for _ in range(3):
        graph.replay()
        seen.append(counter.item())
    return seen


def replay_reads_what_inputs_hold_now(npu: Backend) -> Observation:
    x = ones(npu)
    graph, y = captured(npu, lambda: x * 2 + 1)
    seen = []
    for value in (1.0, 5.0):
        x.fill_(value)
        graph.replay()
        seen.append(y.tolist())
    return seen


def outputs_keep_their_addresses(npu: Backend) -> Observation:
    x = ones(npu)
    graph, y = captured(npu, lambda: x * 2)
    before = y.data_ptr()
    graph.replay()
    return y.data_ptr() == before


def intermediates_alive_outside_are_rewritten(npu: Backend) -> Observation:
    x, seen = ones(npu), []

    def body() -> torch.Tensor:
        middle = x * 2
        seen.append(middle[:])
        return middle + 1

    graph, y = captured(npu, body)
    x.fill_(5)
    graph.replay()
    return [seen[0].tolist(), y.tolist()]


def numbers_of_the_host_are_taken_by_value(npu: Backend) -> Observation:
    x, factor = ones(npu), [3.0]
    graph, y = captured(npu, lambda: x * factor[0])
    factor[0] = 100.0
    graph.replay()
    return y.tolist()


def graphs_replay_in_any_order(npu: Backend) -> Observation:
    x, pool = ones(npu), npu.graph_pool_handle()
    graphs = []
    for factor in (10, 2):
        graph = npu.npu_graph()
        with npu.graph(graph, pool=pool):
            y = (x * factor).relu() + 1
        graphs.append((graph, y))
    seen = []
    for graph, y in (graphs[1], graphs[0], graphs[1]):
        graph.replay()
        seen.append(y.tolist())
    return seen


def an_output_feeds_the_next_graph_of_the_pool(npu: Backend) -> Observation:
    x, pool = ones(npu), npu.graph_pool_handle()
    first, second = npu.npu_graph(), npu.npu_graph()
    with npu.graph(first, pool=pool):
        middle = x * 2
    with npu.graph(second, pool=pool):
        y = middle * 10
    x.fill_(4)
    first.replay()
    second.replay()
    return [y.tolist(), first.pool() == second.pool() == pool]


def graphs_have_pools_of_their_own(npu: Backend) -> Observation:
    x = ones(npu)
    (first, _), (second, _) = captured(npu, lambda: x * 2), captured(npu, lambda: x * 2)
    return first.pool() != second.pool()


def pool_before_a_capture(npu: Backend) -> Observation:
    return error_of(npu.npu_graph().pool)


def replay_before_a_capture(npu: Backend) -> Observation:
    return error_of(npu.npu_graph().replay)


def capture_end_without_a_begin(npu: Backend) -> Observation:
    return error_of(npu.npu_graph().capture_end)


def unknown_capture_error_mode(npu: Backend) -> Observation:
    return error_of(lambda: npu.graph(npu.npu_graph(), capture_error_mode="sometimes").__enter__())


def a_second_capture_without_reset(npu: Backend) -> Observation:
    x = ones(npu)
    graph, y = captured(npu, lambda: x * 2)
    error = error_of(lambda: capture(npu, graph, lambda: x * 3))
    graph.replay()
    return [error, y.tolist()]


def replay_after_reset(npu: Backend) -> Observation:
    x = ones(npu)
    graph, _ = captured(npu, lambda: x * 2)
    graph.reset()
    graph.reset()
    return error_of(graph.replay)


def capture_after_reset(npu: Backend) -> Observation:
    x = ones(npu)
    graph, _ = captured(npu, lambda: x * 2)
    graph.reset()
    with npu.graph(graph):
        y = x * 3
    graph.replay()
    return y.tolist()


def nested_capture(npu: Backend) -> Observation:
    x, outer = ones(npu), npu.npu_graph()

    def body() -> None:
        capture(npu, npu.npu_graph(), lambda: x * 2)

    return [error_of(lambda: capture(npu, outer, body)), (x * 2).tolist()]


def the_body_raises(npu: Backend) -> Observation:
    x, graph = ones(npu), npu.npu_graph()
    seen: list[torch.Tensor] = []

    def body() -> None:
        seen.append(x * 2)
        raise KeyError("body")

    error = error_of(lambda: capture(npu, graph, body))
    return {"error": error, "replay": error_of(graph.replay), "again": error_of(lambda: capture(npu, graph, lambda: x))}


def a_refused_capture(npu: Backend) -> Observation:
    x = ones(npu)
    held, y = captured(npu, lambda: x * 2)
    graph, other = npu.npu_graph(), npu.npu_graph()
    before = npu.streams_taken()
    with npu.streams_left(0):
        error = error_of(lambda: capture(npu, graph, lambda: x * 3))
        x.fill_(4)
        held.replay()
        eager = (x + 1).tolist()
        taken = npu.streams_taken() - before
        replay = error_of(graph.replay)
        held_output = y.tolist()
        held.reset()
        fits = error_of(lambda: capture(npu, other, lambda: x * 3))
    return {"error": error, "held": held_output, "eager": eager, "taken": taken, "replay": replay, "after reset": fits}


def the_pool_of_a_refused_capture(npu: Backend) -> Observation:
    x, pool = ones(npu), npu.graph_pool_handle()

    def into_the_pool() -> None:
        with npu.graph(npu.npu_graph(), pool=pool):
            x.add_(1)

    into_the_pool()
    with npu.streams_left(0):
        refused = error_of(into_the_pool)
    return [refused, error_of(into_the_pool)]


def text_of_a_refused_capture(npu: Backend) -> Observation:
    signatures = ("capturebegin", "207008", "Stream resources are insufficient", "EL0009")
    captured(npu, lambda: None)
    with npu.streams_left(0):
        try:
            capture(npu, npu.npu_graph(), lambda: None)
        except RuntimeError as error:
            return [signature for signature in signatures if signature.lower() in str(error).lower()]
    return None


def streams_of_a_graph(npu: Backend) -> Observation:
    x, seen = ones(npu), []
    first, _ = captured(npu, lambda: x * 2)
    before = npu.streams_taken() - 1
    second, _ = captured(npu, lambda: x * 2)
    seen.append(npu.streams_taken() - before)
    first.reset()
    seen.append(npu.streams_taken() - before)
    del second
    gc.collect()
    seen.append(npu.streams_taken() - before)
    return seen


HOST_READS: dict[str, Callable[[torch.Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "truth": lambda x: bool((x > 0).any()),
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: x.cpu().numpy(),
    "copy to the host": lambda x: x.cpu(),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "equal": lambda x: torch.equal(x, x),
}


def host_read(read: Callable[[torch.Tensor], object]) -> Case:
    """A capture whose body reads a value on the host: its errors, and what works afterwards."""

    def case(npu: Backend) -> Observation:
        x, graph = ones(npu), npu.npu_graph()
        error = error_of(lambda: capture(npu, graph, lambda: read(x)))
        after = error_of(lambda: read(x))
        return {"error": error, "replay": error_of(graph.replay), "eager": after}

    return case


def capture_after_a_host_read(npu: Backend) -> Observation:
    x, graph, other = ones(npu), npu.npu_graph(), npu.npu_graph()
    error_of(lambda: capture(npu, graph, lambda: x.sum().item()))
    with npu.graph(other):
        y = x * 2
    other.replay()
    return [y.tolist(), error_of(lambda: capture(npu, graph, lambda: x * 2))]


def a_constant_of_the_host(npu: Backend) -> Observation:
    x = ones(npu)
    return error_of(lambda: captured(npu, lambda: x * torch.tensor([2.0, 3.0], device=npu.device)))


CASES: dict[str, Case] = {
    case.__name__.replace("_", " "): case
    for case in (
        nothing_runs_at_capture,
        views_are_not_written_at_capture,
        outputs_are_computed_at_capture,
        every_replay_computes_anew,
        replay_reads_what_inputs_hold_now,
        outputs_keep_their_addresses,
        intermediates_alive_outside_are_rewritten,
        numbers_of_the_host_are_taken_by_value,
        graphs_replay_in_any_order,
        an_output_feeds_the_next_graph_of_the_pool,
        graphs_have_pools_of_their_own,
        pool_before_a_capture,
        replay_before_a_capture,
        capture_end_without_a_begin,
        unknown_capture_error_mode,
        a_second_capture_without_reset,
        replay_after_reset,
        capture_after_reset,
        nested_capture,
        the_body_raises,
        a_refused_capture,
        the_pool_of_a_refused_capture,
        text_of_a_refused_capture,
        streams_of_a_graph,
        capture_after_a_host_read,
        a_constant_of_the_host,
    )
} | {f"host read: {name}": host_read(read) for name, read in HOST_READS.items()}
