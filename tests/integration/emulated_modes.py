"""Decodes the same prompts in several modes in this process, and prints tokens and graph counts as JSON.

Run as ``python emulated_modes.py MODEL DTYPE MODE...``; a mode is one of vLLM's, with ``+npugraph_ex`` behind it where
npugraph_ex compiles the model, or ``stock`` for vLLM's CPU backend, or ``compiled`` for the same with Inductor.
Without ``ASCEND_SERVE_EMULATED_NPU`` in the environment only ``stock`` makes sense.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ascend_serve.emulated.processor import allow_tiles

# The first one is short: its prefill fits into a captured size.
PROMPTS = ["x", "Hello, who are you?", "The quick", "Tell me a story about graphs and ranks", "1 2 3", "zebra!", "?? "]
CAPTURE_SIZES = [1, 2, 4, 8]
BATCHES = [1, 2, 3, 4, 5, 8, 11]  # every captured size, between sizes, and above the largest
TOKENS = 24
# In one type devices take no time of their own, in the other one the host runs ahead of them.
DEVICE_TIMES: dict[str, dict[str, float]] = {
    "bfloat16": {},
    "float32": {"fixed": 2.0, "per_token": 0.05, "launch": 0.005},
}


STOCK: dict[str, dict[str, Any]] = {"stock": {"enforce_eager": True}, "compiled": {"enforce_eager": False}}


def emulated_options(dtype: str, mode: str) -> dict[str, Any]:
    cudagraph_mode, _, compiler = mode.partition("+")
    return {
        "compilation_config": {"cudagraph_mode": cudagraph_mode, "cudagraph_capture_sizes": CAPTURE_SIZES},
        "additional_config": {
            "ascend_compilation_config": {"enable_npugraph_ex": compiler == "npugraph_ex"},
            "ascend_serve": {"emulated": {"device_time": DEVICE_TIMES[dtype]}},
        },
    }


def prompts(batch: int) -> list[str]:
    return [f"{PROMPTS[index % len(PROMPTS)]}{index}" for index in range(batch)]


def decode(model: str, dtype: str, mode: str) -> dict[str, Any]:
    from vllm import LLM, SamplingParams
    from vllm.distributed import cleanup_dist_env_and_memory

    llm = LLM(
        model,
        dtype=dtype,
        max_model_len=256,
        max_num_seqs=16,
        max_num_batched_tokens=256,
        kv_cache_memory_bytes=1 << 26,
        enable_prefix_caching=False,
        distributed_executor_backend="uni",
        **STOCK.get(mode) or emulated_options(dtype, mode),
    )
    sampling = SamplingParams(temperature=0, max_tokens=TOKENS, ignore_eos=True)
    counted = count_graphs(llm.llm_engine.vllm_config) if mode not in STOCK else {}
    tokens = {
        batch: [list(output.outputs[0].token_ids) for output in llm.generate(prompts(batch), sampling, use_tqdm=False)]
        for batch in BATCHES
    }
    result = {"tokens": tokens, **counted, "replays": REPLAYS.count}
    result["async_scheduling"] = llm.llm_engine.vllm_config.scheduler_config.async_scheduling
    REPLAYS.count = 0
    del llm
    cleanup_dist_env_and_memory()
    return result


class _Replays:
    """Counts the replays of this process."""

    count = 0

    def install(self) -> None:
        from ascend_serve.emulated.npu_graph import NPUGraph

        replay = NPUGraph.replay

        def counted(npu_graph: Any) -> None:
            self.count += 1
            replay(npu_graph)

        NPUGraph.replay = counted  # type: ignore[method-assign, assignment]


REPLAYS = _Replays()


def count_graphs(vllm_config: Any) -> dict[str, int]:
    """Graphs and streams of the engine with this configuration; earlier engines may not be collected yet."""
    from ascend_serve.emulated.acl_graph import _acl_graph_wrappers
    from ascend_serve.emulated.device import current_device

    REPLAYS.count = 0
    return {
        "graphs": sum(
            len(wrapper.concrete_aclgraph_entries)
            for wrapper in list(_acl_graph_wrappers)
            if wrapper.vllm_config is vllm_config
        ),
        "streams": current_device().streams.used,
    }


if __name__ == "__main__":
    model, dtype, *modes = sys.argv[1:]
    # Stock vLLM too dies of SIGILL with a model as small as this one: nothing asks for tiles before its attention.
    allow_tiles()
    if not set(modes) <= set(STOCK):
        REPLAYS.install()
    results = {mode: decode(model, dtype, mode) for mode in modes}
    sys.stdout.write(json.dumps(results) + "\n")
