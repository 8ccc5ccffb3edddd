"""vLLM's default list of capture sizes, held equal to that of the installed vLLM."""

from types import SimpleNamespace

import pytest

from ascend_serve.graph.default_lists import vllm_sizes

config = pytest.importorskip("vllm.config", reason="vLLM is not installed")


@pytest.mark.parametrize("maximum", [1, 3, 8, 20, 100, 255, 256, 257, 300, 512])
def test_sizes_up_to_the_maximum_that_vllm_ascend_sets(maximum: int) -> None:
    compilation = config.CompilationConfig(max_cudagraph_capture_size=maximum)
    compilation.cudagraph_mode = config.CUDAGraphMode.FULL_AND_PIECEWISE
    engine = SimpleNamespace(
        compilation_config=compilation,
        model_config=SimpleNamespace(enforce_eager=False),
        scheduler_config=SimpleNamespace(max_num_seqs=maximum, max_num_batched_tokens=8192),
        parallel_config=SimpleNamespace(tensor_parallel_size=1),
        speculative_config=None,
        performance_mode="balanced",
        uniform_decode_query_len=1,
    )
    config.VllmConfig._set_cudagraph_sizes(engine)
    assert tuple(compilation.cudagraph_capture_sizes) == vllm_sizes(maximum)
