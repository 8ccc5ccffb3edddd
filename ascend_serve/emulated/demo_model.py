"""Makes a small language model with deterministic random weights, so that nobody needs a download to try the project.

Run as ``python -m ascend_serve.emulated.demo_model OUT [--architecture qwen3]``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors.torch import save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ascend_serve.errors import AscendServeError, ModelError

HEAD_DIM = 64
EXPERTS = 8
EMBEDDING_STD = 0.5
SHARPNESS = 3.0
VALUE_SCALE = 2.0
RECIPE_FILE = "demo_model.json"
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class DemoArchitecture(StrEnum):
    """Architectures that the demo model comes in, by their ``model_type``."""

    QWEN3 = "qwen3"
    QWEN2 = "qwen2"
    LLAMA = "llama"
    QWEN3_MOE = "qwen3_moe"


_CLASS_NAMES = {
    DemoArchitecture.QWEN3: "Qwen3ForCausalLM",
    DemoArchitecture.QWEN2: "Qwen2ForCausalLM",
    DemoArchitecture.LLAMA: "LlamaForCausalLM",
    DemoArchitecture.QWEN3_MOE: "Qwen3MoeForCausalLM",
}


@dataclass(frozen=True, slots=True)
class _Recipe:
    """Everything the model's files depend on."""

    architecture: str
    seed: int
    hidden_size: int
    layers: int
    dtype: str
    version: int = 1

    @property
    def has_qk_norm(self) -> bool:
        return self.architecture in (DemoArchitecture.QWEN3, DemoArchitecture.QWEN3_MOE)

    @property
    def heads(self) -> int:
        return self.hidden_size // HEAD_DIM

    @property
    def kv_heads(self) -> int:
        return max(1, self.heads // 2)

    @property
    def intermediate_size(self) -> int:
        return 2 * self.hidden_size


_DEFAULT = _Recipe(DemoArchitecture.QWEN3.value, seed=0, hidden_size=256, layers=4, dtype="float32")


def make_demo_model(
    path: str | Path,
    *,
    architecture: str = _DEFAULT.architecture,
    seed: int = _DEFAULT.seed,
    hidden_size: int = _DEFAULT.hidden_size,
    layers: int = _DEFAULT.layers,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write the demo model to ``path``, whole or not at all; do nothing when it is there already.

    The default is float32: bfloat16 kernels of the CPU sum differently for different batch shapes, so that a padded
    batch may not give the tokens of the same batch without padding. vLLM's ``dtype=auto`` narrows float32 to bfloat16:
    whoever compares tokens asks for ``dtype=float32``.

    Args:
        path: Folder to write.
        architecture: One of ``DemoArchitecture``.
        seed: Seed of the weights.
        hidden_size: A multiple of 64, the head dimension; a multiple of 256 splits over two ranks evenly.
        layers: Decoder layers.
        dtype: Type of the weights.

    Returns:
        ``path``.

    Raises:
        ModelError: The folder holds something else, or the sizes do not fit.
    """
    folder = Path(path)
    if hidden_size < HEAD_DIM or hidden_size % HEAD_DIM or layers < 1:
        raise ModelError(
            f"A demo model with hidden_size={hidden_size} and layers={layers} cannot be made.",
            f"hidden_size is a multiple of {HEAD_DIM}, layers is 1 or more.",
        )
    recipe = _Recipe(DemoArchitecture(architecture).value, seed, hidden_size, layers, str(dtype).removeprefix("torch."))
    noted = _noted_files(folder, recipe)
    if noted and _are_whole(folder, noted):
        return folder
    if noted is None and folder.exists() and any(folder.iterdir()):
        raise ModelError(
            f"{folder} exists and is not this demo model.",
            "Name another folder, or remove this one to make it again.",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        written = Path(scratch) / folder.name
        written.mkdir()
        _write(written, recipe)
        if noted:
            # Whoever reads it meanwhile goes on with the files that it opened.
            with contextlib.suppress(FileNotFoundError):
                folder.rename(Path(scratch) / "damaged")
        _put(written, folder, recipe)
    return folder


def _put(written: Path, folder: Path, recipe: _Recipe) -> None:
    """Rename ``written`` to ``folder``, unless another process was faster with the same model."""
    try:
        written.rename(folder)
    except OSError:
        files = _noted_files(folder, recipe)
        if not files or not _are_whole(folder, files):
            raise


def recipe_digest() -> str:
    """Changes whenever the model that `make_demo_model` makes by default does."""
    return hashlib.sha256(json.dumps(asdict(_DEFAULT), sort_keys=True).encode()).hexdigest()[:8]


def _noted_files(folder: Path, recipe: _Recipe) -> dict[str, int] | None:
    """Sizes of the files of ``recipe`` as ``folder`` notes them; nothing when it is not a model of this recipe."""
    try:
        noted = json.loads((folder / RECIPE_FILE).read_text())
        return dict(noted["files"]) if noted["recipe"] == asdict(recipe) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _are_whole(folder: Path, files: dict[str, int]) -> bool:
    return all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in files.items())


def _write(folder: Path, recipe: _Recipe) -> None:
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(str(folder))
    (folder / "config.json").write_text(json.dumps(_config(recipe, tokenizer), indent=2))
    # ``save_file`` would let nobody else read it.
    weights = save(dict(_weights(recipe, tokenizer)), metadata={"format": "pt"})
    (folder / "model.safetensors").write_bytes(weights)
    files = {file.name: file.stat().st_size for file in folder.iterdir()}
    (folder / RECIPE_FILE).write_text(json.dumps({"recipe": asdict(recipe), "files": files}, indent=2))


def _tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of bytes: every text can be said, and every token is one byte or a special token."""
    vocabulary = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(vocabulary)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    end_of_text, im_start, im_end = SPECIAL_TOKENS
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token=im_end,
        pad_token=end_of_text,
        additional_special_tokens=[im_start],
        model_max_length=2048,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _config(recipe: _Recipe, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    config = {
        "architectures": [_CLASS_NAMES[DemoArchitecture(recipe.architecture)]],
        "model_type": recipe.architecture,
        "vocab_size": len(tokenizer),
        "hidden_size": recipe.hidden_size,
        "intermediate_size": recipe.intermediate_size,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "num_key_value_heads": recipe.kv_heads,
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "dtype": recipe.dtype,
    }
    if recipe.architecture == DemoArchitecture.QWEN3_MOE:
        config |= {
            "num_experts": EXPERTS,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": recipe.hidden_size,
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
        }
    return config


def _weights(recipe: _Recipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[str, torch.Tensor]]:
    """Weights by name, in an order that the seed relies on.

    Standard deviation 1/sqrt(fan-in) keeps activations of order one, so that every layer has its say. Sharp attention,
    large values and small embeddings make a token depend on far ones; the usual 0.02 everywhere would make it depend
    on the one before alone, and every text would soon repeat one token.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    dtype: torch.dtype = getattr(torch, recipe.dtype)

    def normal(rows: int, columns: int, scale: float = 1.0) -> torch.Tensor:
        return (torch.randn(rows, columns, generator=generator) * scale / columns**0.5).to(dtype)

    hidden = recipe.hidden_size
    yield "model.embed_tokens.weight", normal(len(tokenizer), hidden, scale=EMBEDDING_STD * hidden**0.5)
    for layer in range(recipe.layers):
        prefix = f"model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"{prefix}.{norm}.weight", torch.ones(hidden, dtype=dtype)
        for name, rows, columns in _attention_shapes(recipe):
            yield f"{prefix}.self_attn.{name}.weight", normal(rows, columns, scale=_attention_scale(recipe, name))
            if recipe.architecture == DemoArchitecture.QWEN2 and name != "o_proj":
                yield f"{prefix}.self_attn.{name}.bias", normal(1, rows)[0]
        if recipe.has_qk_norm:
            for norm in ("q_norm", "k_norm"):
                yield f"{prefix}.self_attn.{norm}.weight", torch.full((HEAD_DIM,), SHARPNESS, dtype=dtype)
        for name, rows, columns in _mlp_shapes(recipe):
            yield f"{prefix}.mlp.{name}.weight", normal(rows, columns)
    yield "model.norm.weight", torch.ones(hidden, dtype=dtype)
    head = normal(len(tokenizer), hidden, scale=4.0)
    head[_unprintable(tokenizer)] = 0.0
    head[tokenizer.eos_token_id] *= 0.75  # answers shall end, but seldom after a few tokens
    yield "lm_head.weight", head


def _attention_scale(recipe: _Recipe, name: str) -> float:
    if name == "v_proj":
        return VALUE_SCALE
    # Where queries and keys are normalised, the norms carry the sharpness.
    return SHARPNESS if name in ("q_proj", "k_proj") and not recipe.has_qk_norm else 1.0


def _attention_shapes(recipe: _Recipe) -> list[tuple[str, int, int]]:
    query, key_value = recipe.heads * HEAD_DIM, recipe.kv_heads * HEAD_DIM
    return [
        ("q_proj", query, recipe.hidden_size),
        ("k_proj", key_value, recipe.hidden_size),
        ("v_proj", key_value, recipe.hidden_size),
        ("o_proj", recipe.hidden_size, query),
    ]


def _mlp_shapes(recipe: _Recipe) -> list[tuple[str, int, int]]:
    hidden = recipe.hidden_size
    if recipe.architecture != DemoArchitecture.QWEN3_MOE:
        return _gated_mlp("", recipe.intermediate_size, hidden)
    experts = [shape for index in range(EXPERTS) for shape in _gated_mlp(f"experts.{index}.", hidden, hidden)]
    return [("gate", EXPERTS, hidden), *experts]


def _gated_mlp(prefix: str, inner: int, hidden: int) -> list[tuple[str, int, int]]:
    return [
        (f"{prefix}gate_proj", inner, hidden),
        (f"{prefix}up_proj", inner, hidden),
        (f"{prefix}down_proj", hidden, inner),
    ]


def _unprintable(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Tokens that greedy decoding shall not choose: control characters and bytes that are no text of their own."""
    printable = {tokenizer.convert_tokens_to_ids(chr(code)) for code in range(33, 127)}
    printable |= {tokenizer.convert_tokens_to_ids("\u0120"), tokenizer.eos_token_id}  # the byte alphabet's space
    return [token for token in range(len(tokenizer)) if token not in printable]


def main(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    architecture: Annotated[DemoArchitecture, typer.Option(help="Architecture of the model.")] = DemoArchitecture.QWEN3,
    seed: Annotated[int, typer.Option(help="Seed of the weights.")] = 0,
    hidden_size: Annotated[int, typer.Option(help="Width of the model, a multiple of 64.")] = 256,
    layers: Annotated[int, typer.Option(help="Decoder layers.")] = 4,
) -> None:
    """Make a small model with random weights; do nothing when it is there already."""
    try:
        folder = make_demo_model(out, architecture=architecture, seed=seed, hidden_size=hidden_size, layers=layers)
    except AscendServeError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    typer.echo(f"{folder}: {architecture} model is ready")


if __name__ == "__main__":
    typer.run(main)
