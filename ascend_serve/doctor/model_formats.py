"""What a configuration says of a model's files, held against them: how they are quantized, and in which format."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ascend_serve.config import AscendServeConfig
from ascend_serve.errors import Problem

_AWQ = ("quantize_config.json", "quant_config.json")
_GPTQ = ("quantize_config.json",)
_MODELOPT = ("hf_quant_config.json",)
_MADE_WITH: Mapping[str, tuple[str, ...]] = {
    "auto_awq": _AWQ,
    "auto_gptq": _GPTQ,
    "awq": _AWQ,
    "awq_marlin": _AWQ,
    "compressed-tensors": (),
    "fbgemm_fp8": (),
    "fp_quant": (),
    "gptq": _GPTQ,
    "gptq_marlin": _GPTQ,
    "inc": ("quantization_config.json",),
    "modelopt": _MODELOPT,
    "modelopt_fp4": _MODELOPT,
    "modelopt_mixed": _MODELOPT,
    "modelopt_mxfp8": _MODELOPT,
    "moe_wna16": _GPTQ,
    "quark": (),
    "torchao": (),
}
"""Quantizations that a model was made with, and the files beside ``config.json`` that may say how (vLLM 0.23.0 and
0.32.0, ``get_config_filenames``). The others are made while the weights load."""
_SAYS_HOW = ("quantization_config", "compression_config")


def format_problems(config: AscendServeConfig, folder: Path | None) -> Iterator[Problem]:
    """What vLLM would not find in a model's folder.

    Args:
        config: The configuration.
        folder: The model's folder; ``None`` for the built-in model, which is not quantized.
    """
    method = str(config.vllm.get("quantization"))
    if method in _MADE_WITH and not _says_how(folder, _MADE_WITH[method]) and not _says_so(config):
        files = " or ".join(("config.json", *_MADE_WITH[method]))
        yield (
            f"vllm.quantization: {method}, and the model was not made with it: no {files} says how",
            "Leave it out, or give the folder of a model that was.",
        )
    if config.vllm.get("config_format") == "mistral" and not _has(folder, "params.json"):
        yield "vllm.config_format: mistral, and the model has no params.json", "Leave it out: vLLM finds the format."


def _says_how(folder: Path | None, files: tuple[str, ...]) -> bool:
    if folder is None:
        return False
    try:
        said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True  # Another check tells.
    return _has_key(said) or any(_has(folder, file) for file in files)


def _has_key(said: Any) -> bool:
    """Whether a configuration, or that of a part of the model, says how it is quantized."""
    if not isinstance(said, dict):
        return False
    return any(said.get(key) for key in _SAYS_HOW) or any(map(_has_key, said.values()))


def _says_so(config: AscendServeConfig) -> bool:
    overrides = config.vllm.get("hf_overrides")
    return isinstance(overrides, str) or _has_key(overrides)


def _has(folder: Path | None, file: str) -> bool:
    return folder is not None and (folder / file).exists()
