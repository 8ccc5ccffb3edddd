"""What vLLM's configuration says of graphs: the mode, the capture sizes and their maximum, which change together.

Read by ``CudagraphDispatcher.initialize_cudagraph_keys`` (vLLM 0.23.0 and 0.32.0).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ascend_serve.graph.modes import GraphMode

if TYPE_CHECKING:
    from vllm.config.compilation import CompilationConfig


def set_graphs(compilation: CompilationConfig, mode: GraphMode, capture_sizes: Sequence[int]) -> None:
    """Let vLLM capture and dispatch graphs of ``mode`` for ``capture_sizes``, ascending, in tokens."""
    from vllm.config import CUDAGraphMode

    compilation.cudagraph_mode = CUDAGraphMode[mode.name]
    compilation.cudagraph_capture_sizes = list(capture_sizes)
    compilation.max_cudagraph_capture_size = max(capture_sizes, default=0)
