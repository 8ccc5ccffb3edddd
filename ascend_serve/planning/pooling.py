"""Whether a model pools prompts, to embeddings or scores: vLLM's choice of the runner, without vLLM.

As ``ModelConfig._get_runner_type`` (0.23.0 and 0.32.0), whose registry is held against these names by a test.
"""

from __future__ import annotations

import json
from pathlib import Path

from ascend_serve.config.model_cache import cached_model
from ascend_serve.graph.architecture import Architecture
from ascend_serve.planning.settings import EngineSettings

POOLING_NAMES = (
    "Classification",
    "ColBERT",
    "ColQwen3",
    "ColQwen3_5",
    "ForJointSchema",
    "ForMaskedLM",
    "ForRanking",
    "ForRetrieval",
    "ForRewardModeling",
    "ForTextEncoding",
    "GritLM",
    "Model",
    "PrithviGeoSpatialMAE",
    "Terratorch",
)
"""How names of classes end whose models pool."""

GENERATING_NAMES = (
    "AquilaModel",
    "ChatGLMModel",
    "ChatModel",
    "LMHeadModel",
    "MiDashengLMModel",
    "MossAudioModel",
    "Qwen2_5OmniModel",
    "UltravoxModel",
)
"""How names of classes end that generate all the same."""

_POOLING_MODULE = ".Pooling"
"""How sentence-transformers' module for pooling ends, in all places where it has been."""


def is_pooling(architecture: Architecture, settings: EngineSettings, path: str) -> bool:
    """Whether vLLM runs the model with its pooling runner.

    Args:
        architecture: The model.
        settings: What the section ``vllm`` says.
        path: The model's folder, or its id in a cache.
    """
    if settings.runner != "auto":
        return settings.runner == "pooling"
    if settings.convert not in ("auto", "none"):
        return True
    return _of_sentence_transformers(path) or pools(architecture)


def pools(architecture: Architecture) -> bool:
    """Whether models of this class pool; where no class is named, vLLM takes the base class, which does."""
    if not architecture.architectures:
        return True
    return architecture.name.endswith(POOLING_NAMES) and not architecture.name.endswith(GENERATING_NAMES)


def _of_sentence_transformers(path: str) -> bool:
    """Whether the folder is one of sentence-transformers, some of which have classes that generate."""
    file = (cached_model(path) or Path(path).expanduser()) / "modules.json"
    try:
        modules = json.loads(file.read_text(encoding="utf-8"))
        return any(str(module["type"]).endswith(_POOLING_MODULE) for module in modules)
    except (OSError, ValueError, TypeError, KeyError):
        return False
