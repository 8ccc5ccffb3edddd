"""Models that we take for pooling ones are those of the installed vLLM's registry that do nothing else."""

from __future__ import annotations

import pytest

from ascend_serve.graph.architecture import Architecture
from ascend_serve.planning.pooling import pools

registry = pytest.importorskip("vllm.model_executor.models.registry", reason="vLLM is not installed")

GENERATING = ("_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS")
POOLING = (
    "_EMBEDDING_MODELS",
    "_LATE_INTERACTION_MODELS",
    "_REWARD_MODELS",
    "_TOKEN_CLASSIFICATION_MODELS",
    "_SEQUENCE_CLASSIFICATION_MODELS",
)
BY_CONVERSION = ("ForCausalLM", "ForConditionalGeneration")
"""Models that generate unless they are asked to pool, wherever the registry lists them."""


def _names(tables: tuple[str, ...]) -> set[str]:
    return {name for table in tables for name in getattr(registry, table)}


def _found(names: set[str]) -> set[str]:
    return {name for name in names if pools(Architecture(architectures=(name,), num_hidden_layers=1))}


def test_every_model_that_only_pools_is_one_of_ours() -> None:
    alone = {name for name in _names(POOLING) - _names(GENERATING) if not name.endswith(BY_CONVERSION)}
    assert len(alone) > 30
    assert alone - _found(alone) == set()


def test_no_model_that_generates_is_one_of_ours() -> None:
    generating = _names(GENERATING) - _names(POOLING)
    assert len(generating) > 200
    assert _found(generating) == set()
