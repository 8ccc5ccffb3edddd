"""Families of models by their published ``config.json``: what planning reads of each, and the mode that follows."""

import json
from pathlib import Path
from typing import Any

import pytest

from ascend_serve.config import load
from ascend_serve.errors import ModelError
from ascend_serve.graph.architecture import Architecture
from ascend_serve.graph.modes import GraphMode
from ascend_serve.planning import plan_deployment

MODELS = Path(__file__).parents[2] / "cases" / "models"
FULL, DECODE_ONLY, PIECEWISE = GraphMode.FULL, GraphMode.FULL_DECODE_ONLY, GraphMode.PIECEWISE

# Name, layers of the decoder, backends of its layers, mixture of experts, what is left of graph.mode=FULL, and why.
FAMILIES: dict[str, tuple[int, str, bool, GraphMode, str]] = {
    "Baichuan2-13B": (40, "attention_v1", False, FULL, "dense, no number of heads for keys and values"),
    "DeepSeek-OCR": (12, "attention_v1", True, FULL, "the text part is language_config; kv_lora_rank is null"),
    "DeepSeek-V3.2": (61, "sfa_v1", True, DECODE_ONLY, "index_topk: sparse attention"),
    "DeepSeek-V4-Flash": (43, "dsa_v1", True, DECODE_ONLY, "compress_ratios: AscendDSABackend"),
    "Ernie-4.5-21B-A3B": (28, "attention_v1", True, FULL, "experts are moe_num_experts"),
    "GLM-4.6": (92, "attention_v1", True, FULL, "experts, with grouped-query attention"),
    "GLM-5": (78, "sfa_v1", True, DECODE_ONLY, "index_topk: sparse attention"),
    "Hunyuan-A13B": (32, "attention_v1", True, FULL, "moe_topk is a list"),
    "InternVL3.5-8B": (36, "attention_v1", False, FULL, "the text part is llm_config"),
    "Kimi-K2-Thinking": (61, "mla_v1", True, DECODE_ONLY, "kv_lora_rank: latent attention"),
    "Kimi-K2.5": (61, "mla_v1", True, DECODE_ONLY, "latent attention in text_config"),
    "Kimi-Linear-48B-A3B": (27, "mla_v1 + gdn_attn", True, DECODE_ONLY, "linear_attn_config, and latent attention"),
    "Llama-4-Scout": (48, "attention_v1", True, FULL, "text_config beside a vision_config with layers"),
    "Mamba-Codestral-7B": (64, "mamba_attn", False, DECODE_ONLY, "a state and no attention"),
    "MiniMax-M1": (80, "attention_v1 + linear_attn", True, DECODE_ONLY, "attn_type_list has zeros"),
    "MiniMax-M2": (62, "attention_v1", True, FULL, "attn_type_list is all ones"),
    "Qwen2.5-Omni-7B": (28, "attention_v1", False, FULL, "thinker_config.text_config"),
    "Qwen3-8B-w8a8-modelslim": (36, "attention_v1", False, FULL, "dense"),
    "Qwen3-ASR-1.7B": (28, "attention_v1", False, FULL, "thinker_config.text_config"),
    "Qwen3-Embedding-8B": (36, "attention_v1", False, FULL, "dense"),
    "Qwen3-Next-80B-A3B": (48, "attention_v1 + gdn_attn", True, DECODE_ONLY, "full_attention_interval"),
    "Qwen3-Omni-30B-A3B": (48, "attention_v1", True, FULL, "the thinker's layers, not the talker's"),
    "Qwen3-VL-30B-A3B": (48, "attention_v1", True, FULL, "text_config"),
    "Qwen3.5-27B": (64, "attention_v1 + gdn_attn", False, DECODE_ONLY, "layer_types with linear_attention"),
    "Qwen3.5-35B-A3B": (40, "attention_v1 + gdn_attn", True, DECODE_ONLY, "layer_types with linear_attention"),
    "Whisper-large-v3": (32, "attention_v1", False, PIECEWISE, "an encoder: no full graphs on Ascend"),
    "eagle3-llama-draft": (1, "attention_v1", False, FULL, "a draft model"),
    "gemma-3-27b-it": (62, "attention_v1", False, FULL, "a sliding window is still attention_v1"),
    "gemma-3-4b-it": (34, "attention_v1", False, FULL, "no number of heads: the model's class has it"),
    "gemma-4-31b-it": (60, "attention_v1", False, FULL, "num_experts is null"),
    "gpt-oss-120b": (36, "attention_v1", True, FULL, "layer_types without linear attention"),
    "no-architectures-key": (36, "attention_v1", False, PIECEWISE, "vLLM takes the base class, which pools"),
}


def test_the_table_holds_every_family() -> None:
    assert set(FAMILIES) == {folder.name for folder in MODELS.iterdir()}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_planned(name: str) -> None:
    layers, backends, moe, mode, why = FAMILIES[name]
    config = load({"model": {"path": str(MODELS / name)}, "graph": {"mode": "FULL"}})
    plan = plan_deployment(config, environment={})
    read = Architecture.of(json.loads((MODELS / name / "config.json").read_text()), name)
    found = (plan.model.num_hidden_layers, plan.model.attention_backend, read.is_moe, plan.mode)
    assert found == (layers, backends, moe, mode), why


LAYERS = {"num_hidden_layers": 7}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"text_config": LAYERS}, id="text_config"),
        pytest.param({"thinker_config": {"text_config": LAYERS}}, id="two levels"),
        pytest.param({"transformer_layer_config": LAYERS, "speculators_model_type": "eagle3"}, id="speculators"),
        pytest.param({"backbone_config": LAYERS, "vision_config": {"num_hidden_layers": 3}}, id="an unknown part"),
        pytest.param({"wrapper": {"core": LAYERS}, "audio_config": {"num_layers": 3}}, id="unknown, two levels"),
        pytest.param({"text_config": LAYERS, "num_hidden_layers": 2}, id="the part before the top"),
        pytest.param({"text_config": None, **LAYERS}, id="a part that is null"),
        pytest.param({**LAYERS, "num_attention_heads": None, "hidden_size": None}, id="fields without a value"),
        pytest.param({**LAYERS, "num_experts": [64, 64]}, id="experts for each layer"),
        pytest.param({**LAYERS, "num_key_value_heads": [2, 4, 8]}, id="heads for each layer"),
    ],
)
def test_layers_are_found_wherever_they_stand(content: dict[str, Any]) -> None:
    assert Architecture.of(content, "config.json").num_hidden_layers == 7


@pytest.mark.parametrize(
    ("fields", "backends"),
    [
        pytest.param({"layer_types": ["conv", "full_attention"]}, "attention_v1 + short_conv_attn", id="LFM2"),
        pytest.param({"layer_types": ["mamba", "attention"]}, "attention_v1 + mamba_attn", id="Granite 4"),
        pytest.param({"mamba_d_state": 16}, "attention_v1 + mamba_attn", id="Jamba, Falcon-H1, Zamba2"),
        pytest.param({"ssm_state_size": 128, "hybrid_override_pattern": "M-M*"}, "attention_v1 + mamba_attn", id="NH"),
        pytest.param({"model_type": "bailing_hybrid", "layer_group_size": 5}, "attention_v1 + linear_attn", id="Ring"),
        pytest.param(
            {"model_type": "minimax", "layer_types": ["linear_attention", "full_attention"]},
            "attention_v1 + linear_attn",
            id="MiniMax in the layout of transformers",
        ),
        pytest.param({"full_attention_interval": 1}, "attention_v1", id="an interval of 1 is full attention"),
    ],
)
def test_layers_with_a_state(fields: dict[str, Any], backends: str) -> None:
    content = {**LAYERS, "num_attention_heads": 4, **fields}
    assert " + ".join(Architecture.of(content, "config.json").backends) == backends


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param({"text_config": "qwen3"}, "text_config: 'qwen3' is no mapping", id="text"),
        pytest.param({"thinker_config": {"text_config": [1]}}, "thinker_config.text_config: .1. is no", id="a list"),
        pytest.param({"text_config": {}}, "text_config.num_hidden_layers: Field required", id="an empty one"),
        pytest.param({"text_config": {"n_layer": "x"}}, "text_config.num_hidden_layers: Input should be", id="a word"),
        pytest.param({"vision_config": LAYERS}, "config.json: num_hidden_layers: Field required", id="only eyes"),
    ],
)
def test_what_cannot_be_a_decoder_is_named(content: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Architecture.of(content, "config.json")


def test_a_class_that_nobody_names_is_told_with_what_to_set() -> None:
    path = str(MODELS / "no-architectures-key")
    (note,) = (note for note in _notes(path, {}) if "architectures" in note)
    assert "vllm.hf_overrides" in note
    named = {"hf_overrides": {"architectures": ["Qwen3ForCausalLM"]}}
    assert not [note for note in _notes(path, named) if "architectures" in note]


def _notes(path: str, vllm: dict[str, Any]) -> tuple[str, ...]:
    return plan_deployment(load({"model": {"path": path}, "vllm": vllm}), environment={}).notes
