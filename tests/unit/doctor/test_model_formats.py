"""A quantization that a model was not made with, and a format that its files do not have, are found before a start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ascend_serve.config import load
from ascend_serve.doctor.model_formats import format_problems

AWQ = {"quantization_config": {"quant_method": "awq"}}


def _found(folder: Path | None, **vllm: Any) -> list[str]:
    config = load({"model": {"path": str(folder or "demo")}, "vllm": vllm, "emulated": {"npus": 1}})
    return [problem for problem, _ in format_problems(config, folder)]


@pytest.mark.parametrize(
    ("files", "vllm", "words"),
    [
        pytest.param(
            {}, {"quantization": "awq"}, "no config.json or quantize_config.json or quant_config.json", id="no"
        ),
        pytest.param({}, {"quantization": "torchao"}, "no config.json says how", id="no other file"),
        pytest.param({}, {"quantization": "fp8"}, "", id="made while it loads"),
        pytest.param({}, {"quantization": "ascend"}, "", id="of vllm-ascend"),
        pytest.param(AWQ, {"quantization": "awq"}, "", id="made with it"),
        pytest.param({"text_config": AWQ}, {"quantization": "awq"}, "", id="its text part"),
        pytest.param({}, {"quantization": "awq", "hf_overrides": AWQ}, "", id="overridden"),
        pytest.param({"hf_quant_config.json": True}, {"quantization": "modelopt"}, "", id="a file beside it"),
        pytest.param({}, {"config_format": "mistral"}, "no params.json", id="another format"),
        pytest.param({"params.json": True}, {"config_format": "mistral"}, "", id="its format"),
    ],
)
def test_what_the_folder_lacks(tmp_path: Path, files: dict[str, Any], vllm: dict[str, Any], words: str) -> None:
    for name in (name for name in files if name.endswith(".json")):
        (tmp_path / name).touch()
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in files.items() if not k.endswith(".json")}))
    found = _found(tmp_path, **vllm)
    assert (words in found[0]) if words else found == []


def test_the_built_in_model_is_not_quantized() -> None:
    assert "was not made with it" in _found(None, quantization="gptq")[0]


def test_a_file_that_is_broken_is_told_by_others(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    assert _found(tmp_path, quantization="gptq") == []
