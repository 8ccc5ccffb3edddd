import json
from pathlib import Path
from typing import Any

import pytest

from ascend_serve.errors import ModelError
from ascend_serve.graph.architecture import AttentionBackend
from ascend_serve.graph.narrowing import GraphSupport
from ascend_serve.planning.model_config import card_names, read_architecture

DENSE = {"architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 2}


def model(tmp_path: Path, **fields: Any) -> str:
    (tmp_path / "config.json").write_text(json.dumps(DENSE | fields))
    return str(tmp_path)


@pytest.mark.parametrize(
    ("fields", "backend", "support"),
    [
        pytest.param({}, AttentionBackend.ATTENTION_V1, GraphSupport.ALWAYS, id="dense"),
        pytest.param({"kv_lora_rank": 512}, AttentionBackend.MLA_V1, GraphSupport.UNIFORM_BATCH, id="MLA"),
        pytest.param(
            {"kv_lora_rank": 512, "index_topk": 2048}, AttentionBackend.SFA_V1, GraphSupport.UNIFORM_BATCH, id="sparse"
        ),
        pytest.param({"kv_lora_rank": None}, AttentionBackend.ATTENTION_V1, GraphSupport.ALWAYS, id="null is absent"),
    ],
)
def test_attention_backend(
    tmp_path: Path, fields: dict[str, Any], backend: AttentionBackend, support: GraphSupport
) -> None:
    architecture = read_architecture(model(tmp_path, **fields))
    assert architecture.backend is backend
    assert architecture.backend.support is support


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"num_experts": 128}, {"is_moe": True}, id="experts, Qwen"),
        pytest.param({"n_routed_experts": 256}, {"is_moe": True}, id="experts, DeepSeek"),
        pytest.param({"num_local_experts": 8}, {"is_moe": True}, id="experts, Mixtral"),
        pytest.param({}, {"is_moe": False, "num_hidden_layers": 4}, id="dense"),
        pytest.param(
            {"decoder_layers": 6, "is_encoder_decoder": True},
            {"num_hidden_layers": 6, "is_encoder_decoder": True},
            id="encoder-decoder counts its decoder",
        ),
        pytest.param(
            {"text_config": {"num_hidden_layers": 9}},
            {"num_hidden_layers": 9},
            id="the text part of a multimodal model",
        ),
    ],
)
def test_figures_under_the_names_of_each_family(
    tmp_path: Path, fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    architecture = read_architecture(model(tmp_path, **fields))
    assert {name: getattr(architecture, name) for name in expected} == expected


def test_parameters_are_counted_from_the_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"0" * 200)
    assert read_architecture(model(tmp_path)).parameters == 100


def test_a_folder_that_is_not_there_is_planned_from_its_card() -> None:
    architecture = read_architecture("/nowhere/qwen3-32b")
    assert architecture.num_hidden_layers == 64
    assert "Qwen3-32B.yaml" in architecture.source


@pytest.mark.parametrize("name", card_names())
def test_every_card_is_complete(name: str) -> None:
    architecture = read_architecture(f"/nowhere/{name}")
    assert architecture.parameters


@pytest.mark.parametrize(
    ("content", "part"),
    [
        pytest.param(None, "has no config.json", id="no file"),
        pytest.param("{", "cannot be read as JSON", id="broken"),
        pytest.param("[]", "not a model's configuration", id="a list"),
        pytest.param('{"architectures": ["X"]}', "num_hidden_layers", id="a field is missing"),
        pytest.param(json.dumps(DENSE | {"num_hidden_layers": "many"}), "num_hidden_layers", id="a wrong type"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: str | None, part: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=part):
        read_architecture(str(tmp_path))


def test_neither_folder_nor_card() -> None:
    with pytest.raises(ModelError, match=r"vllm\.speculative_config\.model: /nowhere/else") as error:
        read_architecture("/nowhere/else", "vllm.speculative_config.model")
    assert "Qwen3-32B" in error.value.remedy
