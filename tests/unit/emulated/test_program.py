"""Random programs: whatever a body does, replay does the same to the same memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ascend_serve.emulated.memory_pool import ALIGNMENT, MemoryPool, place
from ascend_serve.emulated.npu_graph import NPUGraph, graph
from ascend_serve.emulated.program import compile_program, trace
from ascend_serve.emulated.recorder import Recorder

SHAPE = (4, 4)
Instruction = Callable[[list[torch.Tensor], int, int], None]


def _append(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Instruction:
    def instruction(values: list[torch.Tensor], left: int, right: int) -> None:
        values.append(function(values[left % len(values)], values[right % len(values)]))

    return instruction


def _write(function: Callable[[torch.Tensor, torch.Tensor], object]) -> Instruction:
    def instruction(values: list[torch.Tensor], left: int, right: int) -> None:
        function(values[left % len(values)], values[right % len(values)])

    return instruction


def _forget(values: list[torch.Tensor], left: int, right: int) -> None:
    if len(values) > 2:
        del values[left % len(values)]


INSTRUCTIONS: dict[str, Instruction] = {
    "add": _append(torch.add),
    "maximum": _append(torch.maximum),
    "matmul": _append(lambda a, b: (a @ b).tanh()),
    "linear": _append(lambda a, b: torch.nn.functional.linear(a, b).tanh()),
    "where": _append(lambda a, b: torch.where(a > b, a, b * 0.5)),
    "stack": _append(lambda a, b: torch.stack([a, b])[1]),
    "transpose": _append(lambda a, b: a.t()),
    "rows of both": _append(lambda a, b: torch.cat([a[:2], b[2:]])),
    "empty": _append(lambda a, b: torch.empty_like(a).copy_(b)),
    "zeros": _append(lambda a, b: torch.zeros(SHAPE)),
    "reshape": _append(lambda a, b: a.reshape(2, 8).reshape(SHAPE)),
    "clone": _append(lambda a, b: a.clone()),
    "write all": _write(lambda a, b: a.copy_(b.clone())),  # torch refuses to copy a transpose onto itself
    "write a row": _write(lambda a, b: a[1].add_(b[2])),
    "write a column": _write(lambda a, b: a.t()[0].mul_(b.clone()[3])),
    "write a number": _write(lambda a, b: a[0].fill_(0.25)),
    "forget": _forget,
}
PROGRAMS = st.lists(
    st.tuples(st.sampled_from(sorted(INSTRUCTIONS)), st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=25
)


def _run(program: list[tuple[str, int, int]], inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    values = list(inputs)
    for name, left, right in program:
        INSTRUCTIONS[name](values, left, right)
    return values


@settings(max_examples=150, deadline=None)
@given(program=PROGRAMS, seed=st.integers(0, 2**16))
def test_replay_is_eager_for_any_program(program: list[tuple[str, int, int]], seed: int) -> None:
    torch.manual_seed(seed)
    with torch.inference_mode():
        inputs = [torch.randn(SHAPE), torch.randn(SHAPE)]
        npu_graph = NPUGraph()
        with graph(npu_graph):
            outputs = _run(program, inputs)
        addresses = [output.data_ptr() for output in outputs]
        for _ in range(2):
            fresh = [torch.randn(SHAPE) for _ in inputs]
            expected_inputs = [value.clone() for value in fresh]
            expected = _run(program, expected_inputs)
            for static, value in zip(inputs, fresh, strict=True):
                static.copy_(value)
            npu_graph.replay()
            assert all(torch.equal(a, b) for a, b in zip(outputs, expected, strict=True))
            assert all(torch.equal(a, b) for a, b in zip(inputs, expected_inputs, strict=True))
        assert [output.data_ptr() for output in outputs] == addresses


BUFFERS = st.dictionaries(
    st.integers(0, 40), st.tuples(st.integers(0, 5000), st.integers(0, 30), st.integers(0, 30)), max_size=20
)


@given(BUFFERS)
def test_buffers_in_use_together_never_overlap(buffers: dict[int, tuple[int, int, int]]) -> None:
    sizes = {index: size for index, (size, _, _) in buffers.items()}
    intervals = {index: (min(a, b), max(a, b)) for index, (_, a, b) in buffers.items()}
    offsets, total = place(sizes, intervals)
    for index, offset in offsets.items():
        assert offset % ALIGNMENT == 0
        assert offset + sizes[index] <= total
        for other, other_offset in offsets.items():
            together = intervals[index][0] <= intervals[other][1] and intervals[other][0] <= intervals[index][1]
            if index != other and together:
                assert offset + sizes[index] <= other_offset or other_offset + sizes[other] <= offset


def test_results_that_are_never_needed_together_share_memory() -> None:
    _, total = place({0: 64, 1: 64, 2: 64}, {0: (0, 1), 1: (1, 2), 2: (2, 3)})
    assert total == 128


def _lines(body: Callable[[], object]) -> int:
    """Calls in the program of ``body``, whose result stays alive."""
    recorder = Recorder()
    recorder.start()
    result = body()
    recorder.stop()
    recording = trace(recorder.operators)
    program = compile_program(recording, MemoryPool())
    del result
    code = program.__code__
    return len({line for _, _, line in code.co_lines() if line is not None and line > 1})


@pytest.mark.parametrize(
    ("calls", "body"),
    [
        pytest.param(1, lambda x: x + 1, id="one operator, one call"),
        pytest.param(1, lambda x: (x.t()[1:].unsqueeze(0).expand(2, -1, -1)) + 1, id="views cost nothing"),
        pytest.param(1, lambda x: torch.empty(4, 4).copy_(x), id="uninitialised memory costs nothing"),
        pytest.param(1, lambda x: (x * 3, x + 1)[1], id="what nobody reads is left out"),
        pytest.param(1, lambda x: (torch.zeros(4).add_(1), x + 1)[1], id="writes that nobody reads are left out"),
        pytest.param(2, lambda x: (x.add_(1), x + 1)[1], id="writes to an input stay"),
        pytest.param(1, lambda x: torch.nn.functional.linear(x, x), id="composite operators write in place"),
    ],
)
def test_program_does_only_what_is_needed(calls: int, body: Callable[[torch.Tensor], object]) -> None:
    x = torch.ones(4, 4)
    with torch.inference_mode():
        assert _lines(lambda: body(x)) == calls
