"""What an NPUGraph promises, case by case."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator

import pytest
import torch

from ascend_serve.emulated.device import EmulatedDevice, current_device, initialize_device
from ascend_serve.emulated.npu_graph import NPUGraph, graph, graph_pool_handle
from ascend_serve.emulated.stream_pool import StreamPool


@pytest.fixture(autouse=True)
def device() -> Iterator[EmulatedDevice]:
    before = current_device()
    device = EmulatedDevice(streams=StreamPool(quota=4), streams_per_graph=2)
    initialize_device(device)
    yield device
    initialize_device(before)


def captured(body: Callable[[], torch.Tensor]) -> tuple[NPUGraph, torch.Tensor]:
    npu_graph = NPUGraph()
    with graph(npu_graph):
        output = body()
    return npu_graph, output


def in_place_on_an_empty(x: torch.Tensor) -> torch.Tensor:
    buffer = torch.empty_like(x)
    buffer.copy_(x)
    buffer.add_(1)
    return buffer


def accumulates_into_zeros(x: torch.Tensor) -> torch.Tensor:
    total = torch.zeros(4)
    for row in x:
        total += row
    return total


def writes_a_host_constant(x: torch.Tensor) -> torch.Tensor:
    constant = torch.tensor([1.0, 2.0, 3.0, 4.0])
    constant.mul_(x[0])
    return constant


def writes_through_a_view(x: torch.Tensor) -> torch.Tensor:
    base = torch.zeros(3, 4)
    base.t()[1:3].copy_(x.t()[1:3])
    return base


def keeps_views_of_one_result(x: torch.Tensor) -> torch.Tensor:
    left, right = (x * 2).chunk(2, dim=1)
    return left - right


def many_short_lived_results(x: torch.Tensor) -> torch.Tensor:
    for step in range(20):
        x = (x * 1.1 + step).sin()
    return x


BODIES = {
    "arithmetic": lambda x: (x + 1) * x - x / 3,
    "matrix product": lambda x: x @ x.t(),
    "linear": lambda x: torch.nn.functional.linear(x, torch.ones(5, 4), torch.arange(5.0)),
    "attention": lambda x: torch.nn.functional.scaled_dot_product_attention(x[None], x[None], x[None]),
    "softmax of a transpose": lambda x: x.t().softmax(-1),
    "concatenation": lambda x: torch.cat([x, x.neg(), x.abs()]),
    "one of several results": lambda x: x.sort(dim=-1, descending=True).values,
    "indexing by a tensor": lambda x: x[torch.argsort(x[:, 0])],
    "repetition of known length": lambda x: x.repeat_interleave(torch.tensor([1, 0, 2]), dim=0, output_size=3),
    "a result with another type": lambda x: (x > 0).to(torch.int32),
    "in place on an empty": in_place_on_an_empty,
    "accumulates into zeros": accumulates_into_zeros,
    "writes a host constant": writes_a_host_constant,
    "writes through a view": writes_through_a_view,
    "keeps views of one result": keeps_views_of_one_result,
    "many short-lived results": many_short_lived_results,
    "layout of the input": lambda x: torch.empty_like(x.t()).copy_(x.t()) + 1,
}


@pytest.mark.parametrize("no_gradients", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_replay_computes_what_eager_computes(body: Callable[[torch.Tensor], torch.Tensor], no_gradients: type) -> None:
    with no_gradients():
        x = torch.randn(3, 4)
        npu_graph, output = captured(lambda: body(x))
        address = output.data_ptr()
        for _ in range(3):
            x.copy_(torch.randn(3, 4))
            npu_graph.replay()
            assert torch.equal(output, body(x))
            assert output.data_ptr() == address


def test_capture_changes_nothing() -> None:
    x = torch.arange(3.0)
    _, output = captured(lambda: x.add_(1) * 2)
    assert x.tolist() == [0.0, 1.0, 2.0]
    assert output.isnan().all()


def test_every_tensor_alive_outside_is_rewritten() -> None:
    x = torch.ones(3)
    seen: list[torch.Tensor] = []
    npu_graph, output = captured(lambda: _remember(x * 2, seen) + 1)
    x.fill_(5)
    npu_graph.replay()
    assert (seen[0].tolist(), output.tolist()) == ([10.0] * 3, [11.0] * 3)


def _remember(tensor: torch.Tensor, seen: list[torch.Tensor]) -> torch.Tensor:
    seen.append(tensor[:])
    return tensor


def test_replay_writes_to_inputs_that_the_body_writes_to() -> None:
    counter = torch.zeros(1)
    npu_graph, _ = captured(lambda: counter.add_(1))
    npu_graph.replay()
    npu_graph.replay()
    assert counter.item() == 2


def test_an_output_of_one_graph_feeds_the_next_of_its_pool() -> None:
    pool = graph_pool_handle()
    x = torch.ones(3)
    first, second = NPUGraph(), NPUGraph()
    with graph(first, pool=pool):
        middle = (x * 2) + 1
    with graph(second, pool=pool):
        output = (middle * 10).relu() - 1
    x.fill_(4)
    first.replay()
    second.replay()
    assert output.tolist() == [89.0] * 3
    assert first.pool() == second.pool() == pool


def test_numbers_of_the_host_are_captured_by_value() -> None:
    x, factor = torch.ones(2), [3.0]
    npu_graph, output = captured(lambda: x * factor[0])
    factor[0] = 100.0
    npu_graph.replay()
    assert output.tolist() == [3.0, 3.0]


HOST_READS: dict[str, Callable[[torch.Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "truth": lambda x: bool(x.any()),
    "int": lambda x: int(x[0]),
    "tolist": lambda x: (x + 1).tolist(),
    "numpy": lambda x: x.numpy(),
    "copy to the host": lambda x: x.cpu(),
    "nonzero": lambda x: x.nonzero(),
    "masked_select": lambda x: x[x > 0],
    "unique": lambda x: x.unique(),
    "repeat_interleave": lambda x: x.repeat_interleave(x.long()),
    "equal": lambda x: torch.equal(x, x + 1),
}


@pytest.mark.parametrize("read", HOST_READS.values(), ids=HOST_READS.keys())
def test_reads_by_the_host_are_refused(read: Callable[[torch.Tensor], object], device: EmulatedDevice) -> None:
    npu_graph, x = NPUGraph(), torch.ones(3)
    with pytest.raises(RuntimeError, match="error code is 507903") as spoilt, graph(npu_graph):
        read(x)
    assert re.search("error code is (107027|107030)", str(spoilt.value.__context__))
    assert device.streams.used == 0
    read(x)  # the process goes on as before


def test_a_body_that_raises_ends_its_capture() -> None:
    npu_graph, x = NPUGraph(), torch.ones(3)
    seen: list[torch.Tensor] = []

    def body() -> None:
        seen.append(x + 1)
        raise KeyError

    with pytest.raises(KeyError), graph(npu_graph):
        body()
    npu_graph.replay()
    assert seen[0].tolist() == [2.0] * 3


def test_a_spoilt_graph_can_capture_again() -> None:
    npu_graph, x = NPUGraph(), torch.ones(3)
    with pytest.raises(RuntimeError, match="507903"), graph(npu_graph):
        x.sum().item()
    with pytest.raises(RuntimeError, match="without a preceding successful capture"):
        npu_graph.replay()
    with graph(npu_graph):
        output = x + 1
    npu_graph.replay()
    assert output.tolist() == [2.0] * 3


def test_misuse_is_refused() -> None:
    npu_graph = NPUGraph()
    with pytest.raises(RuntimeError, match="without a preceding successful capture"):
        npu_graph.replay()
    with pytest.raises(RuntimeError, match="without a preceding successful capture"):
        npu_graph.pool()
    with pytest.raises(RuntimeError, match="without a preceding capture_begin"):
        npu_graph.capture_end()
    with pytest.raises(RuntimeError, match="capture_error_mode"):
        npu_graph.capture_begin(capture_error_mode="sometimes")
    with graph(npu_graph), pytest.raises(RuntimeError, match="under way"):
        npu_graph.reset()
    with pytest.raises(RuntimeError, match="already owns"):
        npu_graph.capture_begin()


def test_a_nested_capture_spoils_the_outer_one() -> None:
    with pytest.raises(RuntimeError, match="507903") as spoilt, graph(NPUGraph()):
        NPUGraph().capture_begin()
    assert re.search(r"107030(.|\n)*nested", str(spoilt.value.__context__))


def test_streams_are_held_from_capture_to_reset(device: EmulatedDevice) -> None:
    first, _ = captured(lambda: torch.ones(1))
    second, _ = captured(lambda: torch.ones(1))
    assert device.streams.left == 0
    with pytest.raises(RuntimeError, match=r"(?s)207008.*Stream resources are insufficient.*EL0009"):
        NPUGraph().capture_begin()
    first.reset()
    assert device.streams.left == 2
    del second
    gc.collect()
    assert device.streams.left == 4


def test_reset_forgets_the_program() -> None:
    npu_graph, _ = captured(lambda: torch.ones(1))
    npu_graph.reset()
    npu_graph.reset()
    with pytest.raises(RuntimeError, match="without a preceding successful capture"):
        npu_graph.replay()
