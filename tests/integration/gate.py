"""Searches for a configuration that `plan` accepts and a start would refuse, without starting anything.

``python -m tests.integration.gate EXAMPLES`` holds configurations of an emulated deployment against vLLM's own
configuration, which is made as a replica makes it: every value of every argument alone, then random sets of them with
random sizes and modes. In a process of its own, because the platform is chosen when vLLM is imported.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from ascend_serve.cli.before_start import check_plan
from ascend_serve.config import load
from ascend_serve.config.vllm_arguments import known_arguments
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
"""What may stand below ``vllm:``, right and wrong, where the type alone does not tell what is worth a try."""

_BY_TYPE: dict[str, tuple[Any, ...]] = {
    "bool": (True, False),
    "int": (-2, -1, 0, 1, 7, 2**40),
    "float": (-1.0, 0.0, 0.5, 1.5),
    "str": ("nothing", "auto", ""),
    "list": ([], ["nothing"], [1]),
    "set": ([], ["nothing"]),
    "dict": ({}, {"nothing": 1}),
    "Config": ({}, {"nothing": 1}),
}


def values() -> dict[str, tuple[Any, ...]]:
    """Values of every argument of the engine."""
    known = known_arguments()
    by_type = {name: (*_of_type(annotation), *known.names.get(name, ())) for name, annotation in known.engine.items()}
    return {name: found for name, found in {**by_type, **VALUES}.items() if found}


def _of_type(annotation: str) -> tuple[Any, ...]:
    words = re.findall(r"'([^']+)'", annotation)
    found = [value for word, some in _BY_TYPE.items() if re.search(word + r"\b", annotation) for value in some]
    return (*words, "nothing", *found) if words else tuple(found)


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


def _sets_of(found: dict[str, tuple[Any, ...]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.sets(st.sampled_from(sorted(found)), max_size=5).flatmap(
        lambda names: st.fixed_dictionaries({name: st.sampled_from(found[name]) for name in sorted(names)})
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
        AssertionError: vLLM refuses what the plan accepts: all of them where it is one value alone, or the smallest
            set that hypothesis found.
    """
    told: Counter[str] = Counter()
    found = values()
    alone = [
        f"{name}: {value!r}: {said}"
        for name, some in found.items()
        for value in some
        if (said := _refused_late({"model": {"path": str(model)}, "vllm": {name: value}}, told))
    ]
    assert not alone, "\n".join(alone)

    @seed(20261128)
    @settings(deadline=None, max_examples=examples, database=None, suppress_health_check=list(HealthCheck))
    @given(parallel=_PARALLEL, graph=_GRAPH, vllm=_sets_of(found))
    def accepted_by_both(parallel: dict[str, Any], graph: dict[str, Any], vllm: dict[str, Any]) -> None:
        described = {"model": {"path": str(model)}, "parallel": parallel, "graph": graph, "vllm": vllm}
        said = _refused_late(described, told)
        assert not said, f"{parallel} {graph} {vllm}: {said}"

    accepted_by_both()
    return told


def _refused_late(described: dict[str, Any], told: Counter[str]) -> str:
    """Why vLLM refuses what the plan accepts; empty where it does not."""
    sizes = [size for name, size in described.get("parallel", {}).items() if name.endswith("_size")]
    described = {**described, "emulated": {"npus": math.prod(sizes)}}
    refused = refused_by_plan(described)
    told["refused" if refused else "accepted"] += 1
    return "" if refused else refused_by_vllm(described)


if __name__ == "__main__":
    os.environ |= {ENABLE_ENV_VAR: "1", "VLLM_LOGGING_LEVEL": "CRITICAL"}
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(search(int(sys.argv[1]), make_demo_model(Path(folder) / "model"))))
