"""What vLLM would refuse of a model, refused when a deployment is planned, with sizes that work."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_serve.config import load
from ascend_serve.errors import ConfigError
from ascend_serve.graph.architecture import Architecture
from ascend_serve.planning import plan_deployment

DENSE = {
    "architectures": ["Qwen3ForCausalLM"],
    "num_hidden_layers": 4,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "intermediate_size": 96,
    "max_position_embeddings": 4096,
}

UNKNOWN = {"num_attention_heads": None, "num_key_value_heads": None, "intermediate_size": None}


def refusal(folder: Path, fields: dict[str, Any], overrides: list[str], environment: dict[str, str]) -> str:
    (folder / "config.json").write_text(json.dumps(DENSE | fields))
    config = load({"model": {"path": str(folder)}, "hardware": {"npus_per_node": 64}}, overrides)
    try:
        plan_deployment(config, environment=environment)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("fields", "overrides", "words"),
    [
        pytest.param({}, ["parallel.tensor_parallel_size=5"], "does not divide the model's 24 attention", id="heads"),
        pytest.param({}, ["parallel.tensor_parallel_size=5"], "one of 1, 2, 4, 8, 24", id="sizes that work"),
        pytest.param({}, ["parallel.tensor_parallel_size=12"], "neither is a multiple", id="heads of keys and values"),
        pytest.param(
            {"intermediate_size": 100}, ["parallel.tensor_parallel_size=8"], "intermediate_size 100", id="FFN"
        ),
        pytest.param({}, ["parallel.enable_expert_parallel=true"], "has no experts", id="experts"),
        pytest.param({}, ["vllm.max_model_len=4097"], "Set vllm.max_model_len=4096, or less", id="too long"),
        pytest.param({}, ["vllm.max_model_len=0"], "0 is no length", id="no length"),
        pytest.param(
            {}, ["vllm.max_num_batched_tokens=16", "vllm.max_num_seqs=32"], "is less than vllm.max_num_seqs", id="batch"
        ),
        pytest.param(
            {},
            ["vllm.max_num_batched_tokens=512", "vllm.enable_chunked_prefill=false"],
            "longest request, 4096 tokens",
            id="no chunks",
        ),
        pytest.param(
            {},
            ["parallel.tensor_parallel_size=8", "vllm.decode_context_parallel_size=2"],
            "over the model's 8 heads",
            id="context over ranks",
        ),
        pytest.param(
            {"kv_lora_rank": 8},
            ["parallel.tensor_parallel_size=8", "vllm.decode_context_parallel_size=3"],
            "does not divide parallel.tensor_parallel_size",
            id="context, latent attention",
        ),
        pytest.param({}, ["vllm.engram_config={}"], "embeds no n-grams", id="a model without n-grams"),
        pytest.param({}, ["vllm.use_replayssm=true"], "keeps no states", id="a model without states"),
        pytest.param(
            {},
            ["vllm.moe_backend=flashinfer_moe_ep_mega_deep_gemm"],
            "for DeepSeek-V4 alone",
            id="another model's experts",
        ),
    ],
)
def test_what_vllm_refuses(tmp_path: Path, fields: dict[str, Any], overrides: list[str], words: str) -> None:
    assert words in refusal(tmp_path, fields, overrides, {})


@pytest.mark.parametrize(
    ("fields", "overrides", "environment"),
    [
        pytest.param({}, ["parallel.tensor_parallel_size=24"], {}, id="each head of keys on several ranks"),
        pytest.param(UNKNOWN, ["parallel.tensor_parallel_size=7"], {}, id="figures that are not known"),
        pytest.param({"num_local_experts": 8}, ["parallel.enable_expert_parallel=true"], {}, id="experts"),
        pytest.param({}, ["vllm.max_model_len=4096"], {}, id="the longest"),
        pytest.param({}, ["vllm.max_num_seqs=null", "vllm.dtype=null"], {}, id="null is a default"),
        pytest.param({}, ["vllm.max_model_len=-1"], {}, id="as long as memory allows"),
        pytest.param({}, ["vllm.max_model_len=9999"], {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}, id="allowed by hand"),
        pytest.param({}, ["vllm.max_num_batched_tokens=16"], {}, id="fewer requests where nobody says how many"),
        pytest.param({"kv_lora_rank": 8}, ["parallel.tensor_parallel_size=12"], {}, id="latent attention has no heads"),
    ],
)
def test_what_vllm_takes(
    tmp_path: Path, fields: dict[str, Any], overrides: list[str], environment: dict[str, str]
) -> None:
    assert refusal(tmp_path, fields, overrides, environment) == ""


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        pytest.param({"max_position_embeddings": 4096}, 4096, id="one name"),
        pytest.param({"n_positions": 2048, "seq_length": 1024}, 1024, id="the smallest of several"),
        pytest.param({"max_position_embeddings": 10, "model_max_length": 40}, 40, id="Command-R"),
        pytest.param(
            {"max_position_embeddings": 100, "rope_scaling": {"type": "linear", "factor": 4.0}}, 400, id="rope"
        ),
        pytest.param(
            {
                "max_position_embeddings": 40960,
                "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            },
            131072,
            id="YaRN from the original length",
        ),
        pytest.param(
            {"max_position_embeddings": 131072, "rope_parameters": {"rope_type": "llama3", "factor": 8.0}},
            131072,
            id="Llama 3 is scaled already",
        ),
        pytest.param({"max_position_embeddings": 9, "rope_scaling": {"factor": None}}, 9, id="no factor"),
        pytest.param({}, None, id="nothing is said"),
    ],
)
def test_the_longest_request(fields: dict[str, Any], length: int | None) -> None:
    assert Architecture.of({"num_hidden_layers": 1, **fields}, "config.json").max_model_len == length


@given(heads=st.integers(1, 128), groups=st.integers(1, 16), tensor=st.integers(1, 64))
def test_a_size_that_is_offered_is_taken(heads: int, groups: int, tensor: int) -> None:
    from ascend_serve.planning.model_limits import _sizes

    for size in map(int, _sizes(heads * groups, groups).removesuffix(".").rpartition(" of ")[2].split(", ")):
        assert not heads * groups % size
        assert not max(groups, size) % min(groups, size)


def test_null_leaves_the_number_of_requests_to_the_plan() -> None:
    plan = plan_deployment(load("qwen3-32b", ["vllm.max_num_seqs=null"]), environment={})
    assert plan.vllm_arguments["max_num_seqs"] == plan.max_num_seqs
