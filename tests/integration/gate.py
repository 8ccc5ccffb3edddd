"""Searches for a configuration that `plan` accepts and a start would refuse, without starting anything.

``python -m tests.integration.gate EXAMPLES`` holds random configurations of an emulated deployment against vLLM's own
configuration, which is made as a replica makes it. In a process of its own, because the platform is chosen when vLLM is
imported.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from ascend_serve.cli.before_start import check_plan
from ascend_serve.config import load
from ascend_serve.emulated import ENABLE_ENV_VAR
from ascend_serve.emulated.demo_model import make_demo_model
from ascend_serve.errors import AscendServeError
from ascend_serve.planning import plan_deployment

VALUES: dict[str, tuple[Any, ...]] = {
    "additional_config": ({"x": 1},),
    "all2all_backend": ("naive", "nothing"),
    "async_scheduling": (True, False),
    "attention_backend": ("CPU_ATTN", "FLASH_ATTN"),
    "attention_config": ({"backend": "FLASH_ATTN"}, {"nothing": 1}),
    "block_size": (1, 16, 32, 100, 128, 0),
    "calculate_kv_scales": (True,),
    "chat_template": ("{{ messages }}", "/nowhere/x.jinja"),
    "code_revision": ("main",),
    "compilation_config": (
        {"mode": 0},
        {"level": 3},
        {"splitting_ops": []},
        {"custom_ops": ["all", "none"]},
        {"pass_config": {"eliminate_noops": True}},
        {"pass_config": {"nothing": True}},
    ),
    "convert": ("auto", "none", "embed", "classify", "reward"),
    "cpu_offload_gb": (0, -1),
    "data_parallel_backend": ("ray", "mp"),
    "dcp_kv_cache_interleave_size": (1, 16),
    "decode_context_parallel_size": (1, 2, 4),
    "disable_cascade_attn": (True,),
    "disable_hybrid_kv_cache_manager": (True,),
    "disable_log_stats": (True,),
    "disable_sliding_window": (True,),
    "distributed_timeout_seconds": (10,),
    "dtype": ("auto", "bfloat16", "float16", "float32", "float", "int8"),
    "enable_auto_tool_choice": (True,),
    "enable_chunked_prefill": (True, False),
    "enable_eplb": (True,),
    "enable_expert_parallel": (True,),
    "enable_lora": (True, False),
    "enable_prefix_caching": (True, False),
    "enable_prompt_embeds": (True,),
    "enable_sleep_mode": (True,),
    "fully_sharded_loras": (True,),
    "generation_config": ("auto", "vllm"),
    "gpu_memory_utilization": (0.1, 1.0, 1.5, 0.0),
    "hf_overrides": ({"num_hidden_layers": 4}, {"max_position_embeddings": 8192}),
    "kv_cache_dtype": ("auto", "bfloat16", "int3"),
    "kv_cache_memory_bytes": (1048576,),
    "kv_events_config": ({"enable_kv_cache_events": True, "publisher": "zmq"}, {"publisher": "pigeon"}),
    "kv_transfer_config": (
        {"kv_connector": "ExampleConnector"},
        {"kv_connector": "NixlConnector", "kv_role": "kv_both"},
        {"kv_role": "nobody"},
    ),
    "limit_mm_per_prompt": ({"image": 1},),
    "load_format": ("auto", "safetensors", "dummy", "nothing"),
    "logprobs_mode": ("raw_logprobs", "processed_logits", "nothing"),
    "long_prefill_token_threshold": (0, 100, 5000, -1),
    "lora_dtype": ("auto", "float16"),
    "lora_modules": ([{"name": "a", "path": "/nowhere"}],),
    "max_cpu_loras": (1, 2, 8),
    "max_logprobs": (-2, -1, 0, 20),
    "max_lora_rank": (1, 8, 16, 100, 1024),
    "max_loras": (1, 4, 0),
    "max_model_len": (0, 1, 100, 2048, 4096, "auto", -1, "2k", -2),
    "max_num_batched_tokens": (1, 8, 64, 1024, 8192),
    "max_num_seqs": (1, 4, 64, 1024),
    "num_gpu_blocks_override": (10,),
    "optimization_level": (0, 2, 7),
    "override_generation_config": ({"temperature": 0.5},),
    "performance_mode": ("balanced", "throughput", "nothing"),
    "pooler_config": ({"pooling_type": "MEAN"}, {"pooling_type": "NOTHING"}),
    "prefill_context_parallel_size": (1, 2),
    "prefix_caching_hash_algo": ("sha256", "xxhash", "builtin"),
    "reasoning_parser": ("qwen3", "nothing"),
    "revision": ("main",),
    "runner": ("auto", "generate", "pooling"),
    "safetensors_load_strategy": ("lazy", "eager", "nothing"),
    "scheduling_policy": ("fcfs", "priority", "random"),
    "seed": (0, 7, 2**40),
    "served_model_name": ("x",),
    "skip_tokenizer_init": (True, False),
    "specialize_active_lora": (True,),
    "speculative_config": (
        {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 3},
        {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 2, "prompt_lookup_min": 3},
        {"method": "ngram", "num_speculative_tokens": 0},
        {"method": "eagle", "num_speculative_tokens": 2},
        {"method": "nothing", "num_speculative_tokens": 1},
        {"num_speculative_tokens": 2},
    ),
    "stream_interval": (0, 1, 5),
    "structured_outputs_config": ({"backend": "xgrammar"}, {"backend": "nothing"}),
    "tensor_parallel_size": (2,),
    "tokenizer": ("/nowhere",),
    "tool_call_parser": ("hermes", "nothing"),
    "trust_remote_code": (True,),
    "worker_cls": ("a.b",),
}
"""What may stand below ``vllm:``, right and wrong."""

_PARALLEL = st.fixed_dictionaries(
    {},
    optional={
        "tensor_parallel_size": st.sampled_from([1, 2, 3, 4]),
        "pipeline_parallel_size": st.sampled_from([1, 2, 3]),
        "data_parallel_size": st.sampled_from([1, 2]),
        "enable_expert_parallel": st.booleans(),
    },
)
_GRAPH = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["NONE", "PIECEWISE", "FULL", "FULL_DECODE_ONLY", "FULL_AND_PIECEWISE"]),
        "runtime": st.sampled_from(["aclgraph", "xlite", "eager"]),
    },
)
_VLLM = st.sets(st.sampled_from(sorted(VALUES)), max_size=5).flatmap(
    lambda names: st.fixed_dictionaries({name: st.sampled_from(VALUES[name]) for name in sorted(names)})
)


def refused_by_plan(described: dict[str, Any]) -> str:
    """Why `plan` refuses a configuration; empty where it does not."""
    try:
        check_plan(load(described))
    except AscendServeError as error:
        return str(error)
    return ""


def refused_by_vllm(described: dict[str, Any]) -> str:
    """Why vLLM refuses the configuration that a replica would make of it; empty where it does not."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext

    from ascend_serve.api.openai_app import server_arguments
    from ascend_serve.engine.executor import LockstepRayExecutor

    try:
        args = server_arguments(plan_deployment(load(described)).vllm_arguments)
        args.distributed_executor_backend = LockstepRayExecutor
        AsyncEngineArgs.from_cli_args(args).create_engine_config(UsageContext.OPENAI_API_SERVER)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def search(examples: int, model: Path) -> Counter[str]:
    """Look for one; how many were refused by the plan, and how many by nobody.

    Raises:
        AssertionError: vLLM refuses what the plan accepts; hypothesis tells the smallest that it found.
    """
    told: Counter[str] = Counter()

    @seed(20261128)
    @settings(deadline=None, max_examples=examples, database=None, suppress_health_check=list(HealthCheck))
    @given(parallel=_PARALLEL, graph=_GRAPH, vllm=_VLLM)
    def accepted_by_both(parallel: dict[str, Any], graph: dict[str, Any], vllm: dict[str, Any]) -> None:
        ranks = 1
        for name, size in parallel.items():
            ranks *= size if name.endswith("_size") else 1
        emulated = {"npus": ranks}
        described = {"model": {"path": str(model)}, "parallel": parallel, "graph": graph, "vllm": vllm}
        refused = refused_by_plan({**described, "emulated": emulated})
        told["refused" if refused else "accepted"] += 1
        if not refused:
            by_vllm = refused_by_vllm({**described, "emulated": emulated})
            assert not by_vllm, f"{parallel} {graph} {vllm}: {by_vllm}"

    accepted_by_both()
    return told


if __name__ == "__main__":
    os.environ |= {ENABLE_ENV_VAR: "1", "VLLM_LOGGING_LEVEL": "CRITICAL"}
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(search(int(sys.argv[1]), make_demo_model(Path(folder) / "model"))))
