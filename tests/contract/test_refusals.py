"""What planning accepts of parallel sizes and lengths, vLLM accepts: its own configuration is built beside ours."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ascend_serve.config import load
from ascend_serve.errors import ConfigError
from ascend_serve.planning import plan_deployment

arg_utils = pytest.importorskip("vllm.engine.arg_utils", reason="vLLM is not installed")

MODEL = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "num_hidden_layers": 2,
    "hidden_size": 256,
    "head_dim": 32,
    "intermediate_size": 96,
    "vocab_size": 512,
    "torch_dtype": "bfloat16",
}
CASES = st.fixed_dictionaries(
    {
        "heads": st.sampled_from([6, 8, 12]),
        "key_value_heads": st.sampled_from([1, 2, 3, 4, 8]),
        "length": st.sampled_from([512, 2048]),
        "tensor": st.integers(1, 6),
        "experts": st.booleans(),
        "max_model_len": st.sampled_from([None, 100, 512, 2048, 2049]),
        "max_num_seqs": st.sampled_from([None, 4, 64]),
        "max_num_batched_tokens": st.sampled_from([None, 8, 64, 1024]),
        "enable_chunked_prefill": st.sampled_from([None, True, False]),
    }
)
PASSED_ON = ("max_model_len", "max_num_seqs", "max_num_batched_tokens", "enable_chunked_prefill")


def ours(folder: Path, case: dict[str, Any]) -> str:
    vllm = {name: case[name] for name in PASSED_ON if case[name] is not None}
    parallel = {"tensor_parallel_size": case["tensor"], "enable_expert_parallel": case["experts"]}
    config = load({"model": {"path": str(folder)}, "parallel": parallel, "vllm": vllm})
    try:
        plan_deployment(config, environment={})
    except ConfigError as error:
        return str(error)
    return ""


def theirs(folder: Path, case: dict[str, Any]) -> str:
    """What vLLM's own configuration says; the executor is named only so that it wants no devices of its own."""
    given = {name: case[name] for name in PASSED_ON if case[name] is not None}
    given.setdefault("max_num_seqs", min(256, given.get("max_num_batched_tokens", 256)))
    arguments = arg_utils.AsyncEngineArgs(
        model=str(folder),
        tensor_parallel_size=case["tensor"],
        enable_expert_parallel=case["experts"],
        skip_tokenizer_init=True,
        distributed_executor_backend="external_launcher",
        **given,
    )
    try:
        arguments.create_engine_config()
    except ValueError as error:
        return str(error)
    return ""


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=CASES)
def test_what_planning_accepts_vllm_accepts(tmp_path: Path, case: dict[str, Any]) -> None:
    heads = {"num_attention_heads": case["heads"], "num_key_value_heads": case["key_value_heads"]}
    content = {**MODEL, **heads, "max_position_embeddings": case["length"]}
    (tmp_path / "config.json").write_text(json.dumps(content))
    refused, by_vllm = ours(tmp_path, case), theirs(tmp_path, case)
    assert refused or not by_vllm, f"{case}: vLLM refuses: {by_vllm}"
