"""The ``vllm:`` section: what is refused before anything starts, with and without vLLM, and what to write instead."""

from typing import Any

import pytest

from ascend_serve.config import load
from ascend_serve.config.vllm_arguments import RENAMED, argument_problems
from ascend_serve.config.vllm_source import recorded
from ascend_serve.errors import ConfigError

NGRAM = {"method": "ngram", "num_speculative_tokens": 2}


@pytest.mark.parametrize(
    ("arguments", "problem", "remedy"),
    [
        pytest.param({"max_num_seq": 1}, "not an argument", "Did you mean vllm.max_num_seqs?", id="misspelled"),
        pytest.param({"max-num-seqs": 1}, "not an argument", "Did you mean vllm.max_num_seqs?", id="dashes"),
        pytest.param(
            {"tool_cal_parser": "x"}, "not an argument", "vllm.tool_call_parser?", id="an option of the server"
        ),
        pytest.param(
            {"no_enable_prefix_caching": True}, "not an argument", "Write vllm.enable_prefix_caching: false.", id="no_"
        ),
        pytest.param({"tensor-parallel-size": 2}, "not an argument", "parallel.tensor_parallel_size", id="decided"),
        pytest.param({"rope_scaling": {}}, "not an argument", "vllm.hf_overrides", id="an older release"),
        pytest.param({"qqqqqq": 1}, "not an argument", "documentation", id="nothing near"),
        pytest.param({"max_num_seqs": "many"}, '"many" is not allowed; allowed: an integer', "Change", id="a word"),
        pytest.param({"max_num_seqs": True}, "true is not allowed; allowed: an integer", "Change", id="a switch"),
        pytest.param({"enforce_tokens": 1, "enable_lora": 1}, "1 is not allowed; allowed: true or false", "", id="one"),
        pytest.param({"gpu_memory_utilization": "0.9"}, "allowed: a number", "Change", id="a number as text"),
        pytest.param({"scheduling_policy": "lifo"}, "allowed: fcfs, priority", "Change", id="not one of the words"),
        pytest.param({"tool_call_parser": "hermis"}, "not one of vLLM's", "Did you mean hermes?", id="no such parser"),
        pytest.param({"reasoning_parser": "qwenn3"}, "not one of vLLM's", "Did you mean qwen3?", id="no such reasoner"),
        pytest.param(
            {"attention_config": {"backnd": "X"}}, "backnd: not a key", "vllm.attention_config.backend?", id="a key"
        ),
        pytest.param(
            {"speculative_config": {"metod": "x"}}, "not a key", "speculative_config.method?", id="another key"
        ),
        pytest.param({"speculative_config": '{"method": "mtp"}'}, "text that holds a mapping", "as keys", id="JSON"),
        pytest.param({"stream_interval": 0}, "0 is not allowed; allowed: at least 1", "Change", id="a bound"),
        pytest.param({"optimization_level": 7}, "allowed: 0, 1, 2, 3", "Change", id="not one of the numbers"),
        pytest.param({"runner": "embed"}, "allowed: auto, generate, pooling, draft", "Change", id="words of words"),
        pytest.param(
            {"speculative_config": {"method": "ngrams", "num_speculative_tokens": 2, "model": "/m"}},
            "vllm.speculative_config.method",
            "Change",
            id="a word in a mapping",
        ),
        pytest.param(
            {"speculative_config": {"method": "ngram", "num_speculative_tokens": 0}},
            "allowed: more than 0",
            "Change vllm.speculative_config.num_speculative_tokens",
            id="a bound in a mapping",
        ),
        pytest.param(
            {"compilation_config": {"pass_config": {"eliminate_noop": True}}},
            "vllm.compilation_config.pass_config.eliminate_noop: not a key",
            "eliminate_noops",
            id="a key in a mapping in a mapping",
        ),
        pytest.param({"speculative_config": {"num_speculative_tokens": 2}}, "need a model", "ngram", id="no drafts"),
        pytest.param(
            {"speculative_config": {"method": "eagle", "num_speculative_tokens": 2}},
            "method eagle needs a model",
            "vllm.speculative_config.model",
            id="drafts without a model",
        ),
        pytest.param(
            {"speculative_config": {**NGRAM, "prompt_lookup_min": 3, "prompt_lookup_max": 2}},
            "prompt_lookup_min: 3 is more than prompt_lookup_max: 2",
            "prompt_lookup_min=2",
            id="lookup of no length",
        ),
        pytest.param(
            {"speculative_config": NGRAM, "async_scheduling": True},
            "vllm.async_scheduling: true with vllm.speculative_config.method: ngram",
            "step by step",
            id="drafts that cannot be scheduled ahead",
        ),
        pytest.param({"compilation_config": {"custom_ops": ["all", "none"]}}, "both all and none", "one", id="ops"),
        pytest.param({"compilation_config": {"custom_ops": ["silu"]}}, "silu is neither", "+silu", id="an operator"),
        pytest.param(
            {"kv_transfer_config": {"kv_connector": "NixlConnector"}},
            "kv_connector without kv_role",
            "kv_both",
            id="a connector without a role",
        ),
        pytest.param({"enable_auto_tool_choice": True}, "without vllm.tool_call_parser", "Set", id="tools"),
        pytest.param({"enable_log_outputs": True}, "without vllm.enable_log_requests", "Set", id="outputs"),
        pytest.param({"lora_modules": ["a=/a"]}, "without vllm.enable_lora", "Set", id="adapters"),
        pytest.param(
            {"ignore_patterns": [1]}, "[1] is not allowed; allowed: text or a list of text", "", id="in a list"
        ),
        pytest.param({"numa_bind_nodes": ["x"], "numa_bind": True}, "a list of an integer", "Change", id="words in it"),
        pytest.param(
            {"collect_detailed_traces": ["modle"]}, "a list of model, worker, all", "Change", id="not one of its words"
        ),
        pytest.param({"media_io_kwargs": {"video": 1}}, "a mapping of a mapping", "Change", id="in a mapping"),
        pytest.param({"offload_backend": "disk"}, "allowed: auto, uva, prefetch", "Change", id="words of its section"),
        pytest.param(
            {"watermark_config": {"alpha": 0.5}}, "without key", "watermark_config.key", id="a key that lacks"
        ),
        pytest.param(
            {"diffusion_config": {"x": 1}}, "x: not a key of diffusion_config", "", id="a mapping of any kind"
        ),
        pytest.param({"quantization": "awk"}, "not one of vLLM's", "Did you mean awq?", id="no such quantization"),
        pytest.param({"config_format": "yaml"}, "not one of vLLM's", "hf", id="no such format"),
        pytest.param({"mamba_backend": "cuda"}, "not one of vLLM's", "TRITON", id="none of an enumeration"),
        pytest.param({"ubatch_size": 2}, "without a vllm.all2all_backend", "deepep_low_latency", id="microbatches"),
        pytest.param({"numa_bind_nodes": [0]}, "without vllm.numa_bind", "numa_bind=true", id="nodes of memory"),
        pytest.param({"numa_bind": True, "numa_bind_cpus": ["a"]}, "numactl", "0-3", id="processors"),
        pytest.param({"numa_bind": True, "numa_bind_cpus": []}, "empty", "each rank", id="no processors"),
        pytest.param(
            {"max_num_active_seqs": 9, "max_num_seqs": 8}, "9 is more than", "max_num_active_seqs=8", id="active"
        ),
        pytest.param(
            {"mamba_block_size": 8, "enable_prefix_caching": False},
            "without prefix caching",
            "Set",
            id="blocks of states",
        ),
        pytest.param({"mamba_ssu_algorithm": "simple"}, "FlashInfer", "Leave", id="an algorithm of states"),
        pytest.param({"enable_mamba_cache_stochastic_rounding": True}, "float16", "Set", id="rounded states"),
        pytest.param({"kda_prefill_backend": "flashkda"}, "for GPUs alone", "Leave", id="kernels of GPUs"),
        pytest.param({"enable_hc_sp": True}, "for GPUs alone", "Leave", id="a split for GPUs"),
        pytest.param({"show_hidden_metrics_for_version": "old"}, "no version", "0.32", id="no version"),
        pytest.param(
            {"per_request_spec_decode_metrics": "summary"},
            "without vllm.speculative_config",
            "Leave",
            id="no drafts told",
        ),
        pytest.param({"quantization": "fp_quant"}, "deprecated", "allow_deprecated", id="deprecated"),
        pytest.param(
            {"quantization": "online"}, "without vllm.quantization_config", "layers", id="made while it loads"
        ),
        pytest.param({"quantization_config": "x"}, '"x" is no mapping', "as keys below it", id="text for a mapping"),
        pytest.param({"logits_processors": [1]}, "[1] is not allowed", "Change", id="a number for a class"),
        pytest.param({"offload_backend": "prefetch"}, "1 is more than", "offload_group_size=1", id="no group"),
        pytest.param({"enable_trace_replay": True}, "Model Runner V2 alone", "Leave", id="another runner's"),
    ],
)
def test_what_vllm_would_refuse(arguments: dict[str, Any], problem: str, remedy: str) -> None:
    found = list(argument_problems(arguments))
    assert any(problem in said and remedy in advice for said, advice in found), found


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"max_num_seqs": 8, "gpu_memory_utilization": 1, "seed": 7}, id="numbers"),
        pytest.param({"seed": None, "max_num_seqs": None}, id="null is vLLM's default"),
        pytest.param({"tool_call_parser": "hermes", "enable_auto_tool_choice": True}, id="tools"),
        pytest.param({"chat_template": "{{ x }}", "allowed_origins": ["*"]}, id="options of the server"),
        pytest.param({"compilation_config": {"cudagraph_mode": "FULL"}}, id="what another section decides, told there"),
        pytest.param({"hf_overrides": {"any": 1}, "additional_config": {"any": 1}}, id="mappings without a class"),
        pytest.param({"quantization": "ascend", "tokenizer_mode": "deepseek_v4"}, id="names that vllm-ascend adds"),
        pytest.param({"speculative_config": NGRAM, "async_scheduling": False}, id="drafts"),
        pytest.param({"speculative_config": {"method": "deepseek_mtp", "num_speculative_tokens": 1}}, id="own drafts"),
        pytest.param({"kv_transfer_config": {"kv_role": "kv_both", "kv_port": "30100"}}, id="a number as text"),
        pytest.param({"numa_bind": True, "numa_bind_nodes": ["0", 1]}, id="numbers as text in a list"),
        pytest.param({"mamba_backend": "triton", "quantization": "fp8", "config_format": "auto"}, id="names"),
        pytest.param({"offload_backend": "prefetch", "offload_group_size": 2}, id="a group"),
        pytest.param({"logits_processors": ["a.B"]}, id="the name of a class"),
        pytest.param({"ubatch_size": 2, "all2all_backend": "deepep_low_latency"}, id="microbatches"),
        pytest.param({"watermark_config": None, "enable_trace_replay": False}, id="nothing of another runner"),
    ],
)
def test_what_vllm_takes(arguments: dict[str, Any]) -> None:
    assert list(argument_problems(arguments)) == []


def test_a_configuration_is_refused_when_it_is_read_with_all_problems() -> None:
    with pytest.raises(ConfigError) as caught:
        load({"model": {"path": "m"}, "vllm": {"max_num_seq": 1, "port": 1, "seed": "x"}})
    assert [part in caught.value.problem for part in ("max_num_seq:", "port: decided", "seed:")] == [True] * 3


def test_older_names_are_names_of_neither_release() -> None:
    names = {name for release in recorded().values() for name in (*release.engine, *release.server)}
    assert set(RENAMED) & names == set()
