"""Small models with random weights for every feature: one that generates, a draft model, adapters, one that scores."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from ascend_serve.emulated.demo_model import make_demo_model

RANK = 8


@dataclass(frozen=True)
class Models:
    """Folders of the models.

    Attributes:
        target: Generates.
        draft: Drafts for it.
        adapter: A LoRA adapter of it.
        other_adapter: Another one.
        score: Scores pairs of texts.
        encoder: Embeds texts, with attention in both directions.
    """

    target: str = "demo"
    draft: str = "demo"
    adapter: str = "adapter"
    other_adapter: str = "other"
    score: str = "demo"
    encoder: str = "demo"


def make_models(folder: Path) -> Models:
    """Make all of them below ``folder``, with two layers each, the draft model with one."""
    target = make_demo_model(folder / "target", layers=2)
    return Models(
        str(target),
        str(make_demo_model(folder / "draft", layers=1)),
        str(_adapter(target, folder / "adapter", seed=7)),
        str(_adapter(target, folder / "other", seed=9)),
        str(_score(target, folder / "score")),
        str(_encoder(target, folder / "encoder")),
    )


def _config(model: Path) -> dict[str, Any]:
    return dict(json.loads((model / "config.json").read_text()))


def _adapter(target: Path, folder: Path, seed: int) -> Path:
    """An adapter of queries and values that changes what the model says, in the form of PEFT."""
    config, generator = _config(target), torch.Generator().manual_seed(seed)
    hidden, size = config["hidden_size"], config["head_dim"]
    outputs = {"q_proj": config["num_attention_heads"] * size, "v_proj": config["num_key_value_heads"] * size}
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        for name, rows in outputs.items():
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{prefix}.lora_A.weight"] = torch.randn(RANK, hidden, generator=generator) / hidden**0.5
            weights[f"{prefix}.lora_B.weight"] = torch.randn(rows, RANK, generator=generator)
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "adapter_model.safetensors")
    options = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": [*outputs], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(options))
    return folder


def _score(target: Path, folder: Path) -> Path:
    """The model with one label instead of an output layer."""
    shutil.copytree(target, folder, dirs_exist_ok=True)
    config = _config(target)
    labels = {"num_labels": 1, "id2label": {"0": "relevance"}, "label2id": {"relevance": 0}}
    (folder / "config.json").write_text(
        json.dumps(config | labels | {"architectures": ["Qwen3ForSequenceClassification"]})
    )
    weights = load_file(target / "model.safetensors")
    del weights["lm_head.weight"]
    generator = torch.Generator().manual_seed(3)
    weights["score.weight"] = torch.randn(1, config["hidden_size"], generator=generator) / config["hidden_size"] ** 0.5
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _encoder(target: Path, folder: Path) -> Path:
    """A model like BERT, with the tokenizer of the others."""
    from transformers import BertConfig, BertModel

    shutil.copytree(target, folder, dirs_exist_ok=True)
    torch.manual_seed(5)
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 128,
    }
    config = BertConfig(vocab_size=_config(target)["vocab_size"], max_position_embeddings=2048, **sizes)
    BertModel(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder
