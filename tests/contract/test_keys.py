"""The keys that a mode captures, held equal to those of the installed vLLM's dispatcher, order included."""

from types import SimpleNamespace

import pytest

from ascend_serve.graph.keys import capture_keys
from ascend_serve.graph.modes import GraphMode

dispatching = pytest.importorskip("vllm.v1.cudagraph_dispatcher", reason="vLLM is not installed")
from vllm.config import CompilationConfig, CompilationMode, CUDAGraphMode  # noqa: E402


def dispatched(
    mode: GraphMode, sizes: tuple[int, ...], max_num_seqs: int, decode_query_len: int, max_loras: int
) -> list[tuple[str, int, int | None, bool, int]]:
    """The keys of a real dispatcher; only the engine's configuration around it is reduced to what it reads."""
    compilation = CompilationConfig(
        mode=CompilationMode.VLLM_COMPILE,
        cudagraph_mode=CUDAGraphMode[mode],
        cudagraph_capture_sizes=list(sizes),
        max_cudagraph_capture_size=sizes[-1],
        splitting_ops=list(CompilationConfig._attention_ops),
    )
    compilation.cudagraph_specialize_lora = max_loras > 0
    config = SimpleNamespace(
        compilation_config=compilation,
        num_speculative_tokens=decode_query_len - 1,
        scheduler_config=SimpleNamespace(max_num_seqs=max_num_seqs),
        lora_config=SimpleNamespace(max_loras=max_loras, specialize_active_lora=True) if max_loras else None,
    )
    dispatcher = dispatching.CudagraphDispatcher(config)
    dispatcher.initialize_cudagraph_keys(CUDAGraphMode[mode], decode_query_len)
    return [
        (kind.name, desc.num_tokens, desc.num_reqs, desc.uniform, desc.num_active_loras)
        for kind, descs in dispatcher.get_capture_descs()
        for desc in descs
    ]


@pytest.mark.parametrize("mode", list(GraphMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(
    ("sizes", "max_num_seqs", "decode_query_len", "lora_cases"),
    [
        pytest.param((1, 2, 4, 8), 8, 1, (0,), id="decode of one token"),
        pytest.param((1, 2, 4, 8, 16), 8, 1, (0,), id="sizes above the requests"),
        pytest.param((3, 6, 9, 24), 8, 3, (0,), id="speculative decoding"),
        pytest.param((1, 4, 8), 8, 1, (0, 1, 2, 3), id="LoRA"),
    ],
)
def test_keys_and_their_order_are_upstreams(
    mode: GraphMode, sizes: tuple[int, ...], max_num_seqs: int, decode_query_len: int, lora_cases: tuple[int, ...]
) -> None:
    ours = capture_keys(
        mode, sizes, max_num_seqs=max_num_seqs, decode_query_len=decode_query_len, lora_cases=lora_cases
    )
    theirs = dispatched(mode, sizes, max_num_seqs, decode_query_len, len(lora_cases) - 2 if len(lora_cases) > 1 else 0)
    assert [(key.kind, key.num_tokens, key.num_reqs, key.uniform, key.num_active_loras) for key in ours] == theirs
