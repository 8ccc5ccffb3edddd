"""Small models with random weights, in the shapes that people run."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ascend_serve.emulated.demo_model import make_demo_model

DENSE, EXPERTS, LATENT = "qwen3", "qwen3_moe", "deepseek_v3"
LAYERS = 2


def make(name: str, folder: Path) -> Path:
    """Write a model to a folder of its own in ``folder``."""
    target = folder / name
    if name == LATENT:
        return _make_latent(target, make_demo_model(folder / DENSE, layers=LAYERS))
    return make_demo_model(target, architecture=name, layers=LAYERS)


def _make_latent(folder: Path, tokenizer: Path) -> Path:
    """A DeepSeek-V3 in the sizes that CANN's operators take: latent attention, a layer without experts and one with.

    Standard deviation 1/sqrt(fan-in), as the demo model has it, lets every layer have its say.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, DeepseekV3Config

    words = AutoTokenizer.from_pretrained(tokenizer)
    config = DeepseekV3Config(
        vocab_size=len(words),
        hidden_size=256,
        intermediate_size=512,
        moe_intermediate_size=128,
        num_hidden_layers=LAYERS,
        first_k_dense_replace=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        kv_lora_rank=512,
        q_lora_rank=128,
        qk_rope_head_dim=64,
        qk_nope_head_dim=128,
        v_head_dim=128,
        n_shared_experts=1,
        n_routed_experts=8,
        num_experts_per_tok=2,
        n_group=2,
        topk_group=1,
        routed_scaling_factor=1.0,
        max_position_embeddings=2048,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    # As in the released models' configuration; vLLM reads them.
    config.update({"topk_method": "noaux_tc", "num_nextn_predict_layers": 1})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                spread = 0.5 if "embed_tokens" in name else weight.shape[-1] ** -0.5
                weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
            else:
                weight.fill_(1.0 if "norm" in name else 0.0)
    words.save_pretrained(folder)
    model.save_pretrained(folder)
    _add_predictor(folder, generator)
    return folder


def _add_predictor(folder: Path, generator: torch.Generator) -> None:
    """The layer that predicts one token more (MTP), beside the others as in the released models.

    Transformers does not have it. It computes what the last layer does, on a random mixture of its two inputs.
    """
    weights = load_file(folder / "model.safetensors")
    last, own = f"model.layers.{LAYERS - 1}.", f"model.layers.{LAYERS}."
    layer = {name.replace(last, own): weight for name, weight in weights.items() if name.startswith(last)}
    shared = {"embed_tokens": "model.embed_tokens", "shared_head.head": "lm_head", "shared_head.norm": "model.norm"}
    shared |= dict.fromkeys(("enorm", "hnorm"), "model.norm")
    layer |= {f"{own}{name}.weight": weights[f"{of}.weight"].clone() for name, of in shared.items()}
    width = weights["model.norm.weight"].numel()
    layer[f"{own}eh_proj.weight"] = torch.randn(width, 2 * width, generator=generator) * (2 * width) ** -0.5
    save_file(layer, folder / "predictor.safetensors", {"format": "pt"})
