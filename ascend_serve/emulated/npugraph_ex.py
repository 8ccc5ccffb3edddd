"""npugraph_ex of the emulated NPU: Inductor compiles the FX graph that Dynamo made of the model.

As on Ascend, the model is compiled once for all batch sizes, and a capture records what the compiled graph launches:
here one launch, as Inductor's kernels do not pass torch's dispatcher. Checked against vLLM 0.32.0, which takes the
backend by its name (``CompilationConfig.backend``).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from ascend_serve.emulated.launches import LaunchCount
from ascend_serve.emulated.npu_graph import recorder_of_capture

_OPTIONS: dict[str, Any] = {
    "dce": True,
    "size_asserts": False,
    "nan_asserts": False,
    "epilogue_fusion": True,
    "cpp.dynamic_threads": True,
    "enable_auto_functionalized_v2": False,
}
"""As vLLM's CPU platform compiles (0.32.0, ``CpuPlatform.check_and_update_config``)."""


def compile_graph(graph: fx.GraphModule, example_inputs: Sequence[Any], **_: Any) -> CompiledGraph:
    """Compile ``graph``; a backend of ``torch.compile``."""
    # Seconds to import, and most engines compile nothing.
    from torch._inductor.compile_fx import compile_fx

    # Inductor changes the graph that it is given.
    traced = copy.deepcopy(graph)
    return CompiledGraph(traced, compile_fx(graph, list(example_inputs), config_patches=_OPTIONS))


class CompiledGraph:
    """One compiled FX graph, which a capture records without running it.

    Args:
        graph: The graph as it was traced; it tells the shapes of what comes out.
        compiled: The same, compiled.
    """

    def __init__(self, graph: fx.GraphModule, compiled: Callable[..., Any]) -> None:
        self._graph = graph
        self._compiled = compiled

    def __call__(self, *inputs: Any) -> Any:
        """Run, or be recorded as one launch where a capture is under way."""
        recorder = recorder_of_capture()
        if recorder is not None:
            return recorder.launch(self._compiled, inputs, self._empty_outputs)
        if _counts:
            with _counts[-1]:
                self._fake_outputs(inputs)
        return self._compiled(*inputs)

    def _empty_outputs(self, *inputs: Any) -> Any:
        return pytree.tree_map_only(
            torch.Tensor,
            lambda fake: torch.empty_strided(fake.size(), fake.stride(), dtype=fake.dtype),
            self._fake_outputs(inputs),
        )

    def _fake_outputs(self, inputs: Sequence[Any]) -> Any:
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            return self._graph(*pytree.tree_map_only(torch.Tensor, mode.from_tensor, tuple(inputs)))


_counts: list[LaunchCount] = []


@contextmanager
def graph_launches() -> Iterator[LaunchCount]:
    """Count what compiled graphs launch; the count is not entered meanwhile, as no graph can be traced beside it."""
    _counts.append(LaunchCount())
    try:
        yield _counts[-1]
    finally:
        _counts.pop()
