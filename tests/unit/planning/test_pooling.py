"""Which models pool: what vLLM's runner follows from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ascend_serve.graph.architecture import Architecture
from ascend_serve.planning.pooling import is_pooling
from ascend_serve.planning.settings import read_settings

NOT_THERE = "no-such-folder"


@pytest.mark.parametrize(
    ("name", "options", "pools"),
    [
        pytest.param("Qwen3ForCausalLM", {}, False, id="a model that generates"),
        pytest.param("Qwen3ForCausalLM", {"runner": "pooling"}, True, id="runner"),
        pytest.param("Qwen3ForCausalLM", {"convert": "embed"}, True, id="convert"),
        pytest.param("Qwen3ForCausalLM", {"convert": "none"}, False, id="convert to none"),
        pytest.param("BertModel", {}, True, id="an encoder"),
        pytest.param("BertModel", {"runner": "generate"}, False, id="runner, against the name"),
        pytest.param("Qwen3ForSequenceClassification", {}, True, id="a classifier"),
        pytest.param("InternLM2ForRewardModel", {}, True, id="a reward model"),
        pytest.param("InternVLChatModel", {}, False, id="a chat model"),
        pytest.param("ChatGLMModel", {}, False, id="a Model that generates"),
        pytest.param(None, {}, True, id="no class: vLLM takes the base class"),
    ],
)
def test_by_name_and_options(name: str | None, options: dict[str, Any], pools: bool) -> None:
    architecture = Architecture(architectures=(name,) if name else (), num_hidden_layers=2)
    assert is_pooling(architecture, read_settings(options), NOT_THERE) is pools


@pytest.mark.parametrize(
    ("modules", "pools"),
    [
        pytest.param([{"type": "sentence_transformers.models.Pooling"}], True, id="pooling"),
        pytest.param([{"type": "sentence_transformers.models.Transformer"}], False, id="no pooling"),
        pytest.param({"type": 1}, False, id="something else"),
    ],
)
def test_a_folder_of_sentence_transformers_pools(modules: Any, pools: bool, tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    architecture = Architecture(architectures=("Qwen3ForCausalLM",), num_hidden_layers=2)
    assert is_pooling(architecture, read_settings({}), str(tmp_path)) is pools
