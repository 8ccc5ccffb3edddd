"""What planning needs to know of a model: from its ``config.json``, or from an architecture card.

A card is a YAML file in ``configs/architectures``, named as the model's folder, with the fields of the published
``config.json`` that matter here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ascend_serve.errors import ModelError
from ascend_serve.graph.narrowing import GraphSupport

CARDS = Path("configs") / "architectures"
"""Where cards are, below the current directory; those that are shipped are below the package."""


class AttentionBackend(StrEnum):
    """Attention backends of vllm-ascend 0.23.0, chosen by ``NPUPlatform.get_attn_backend_cls``."""

    ATTENTION_V1 = "attention_v1"
    MLA_V1 = "mla_v1"
    SFA_V1 = "sfa_v1"

    @property
    def support(self) -> GraphSupport:
        """What the backend declares, with and without context parallelism (its ``get_cudagraph_support``)."""
        return GraphSupport.ALWAYS if self is AttentionBackend.ATTENTION_V1 else GraphSupport.UNIFORM_BATCH


class Architecture(BaseModel):
    """A model as far as planning goes; field names are those of ``config.json``.

    Attributes:
        parameters: Number of parameters, published or counted from the files; ``None`` when unknown.
        source: Where this was read from.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    architectures: tuple[str, ...] = Field(min_length=1)
    model_type: str = ""
    num_hidden_layers: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    num_key_value_heads: int | None = None
    num_experts: int = 0
    kv_lora_rank: int | None = None
    index_topk: int | None = None
    is_encoder_decoder: bool = False
    num_nextn_predict_layers: int = 0
    parameters: float | None = None
    source: str = ""

    @property
    def name(self) -> str:
        """Class name of the architecture, for example ``Qwen3ForCausalLM``."""
        return self.architectures[0]

    @property
    def is_moe(self) -> bool:
        """Whether the model is a mixture of experts."""
        return self.num_experts > 0

    @property
    def backend(self) -> AttentionBackend:
        """Attention backend that vllm-ascend chooses: sparse attention, multi-head latent attention, or the default."""
        if self.index_topk is not None:
            return AttentionBackend.SFA_V1
        return AttentionBackend.ATTENTION_V1 if self.kv_lora_rank is None else AttentionBackend.MLA_V1


def read_architecture(path: str, key: str = "model.path") -> Architecture:
    """Read the architecture of the model in folder ``path``, or the card of its name where the folder is missing.

    Args:
        path: The model's folder.
        key: The option it comes from, for messages.

    Raises:
        ModelError: There is neither, or what is there cannot be read.
    """
    file = Path(path).expanduser() / "config.json"
    if file.is_file():
        return _parse(_read_json(file), str(file))
    if Path(path).expanduser().exists():
        raise ModelError(f"{key}: {path} has no config.json", "Give the folder that holds the model's config.json.")
    return read_card(path, key)


def read_card(path: str, key: str = "model.path") -> Architecture:
    """Read the architecture card that has the name of folder ``path``.

    Raises:
        ModelError: There is none, or it cannot be read.
    """
    card = find_card(Path(path).name)
    if card is None:
        raise ModelError(
            f"{key}: {path} does not exist, and there is no architecture card of that name",
            f"Give the model's folder, or one of the cards: {', '.join(card_names()) or 'none found'}.",
        )
    return _parse(yaml.safe_load(card.read_text(encoding="utf-8")), f"card {card.parent.name}/{card.name}")


def find_card(name: str) -> Path | None:
    """Find the architecture card of a model by its name, upper and lower case alike."""
    found = (card for folder in _card_folders() for card in folder.glob("*.yaml") if card.stem.lower() == name.lower())
    return next(found, None)


def card_names() -> tuple[str, ...]:
    """Names of all architecture cards."""
    return tuple(sorted({card.stem for folder in _card_folders() for card in folder.glob("*.yaml")}))


def _card_folders() -> tuple[Path, ...]:
    package = Path(__file__).resolve().parents[1]
    return tuple(base / CARDS for base in (Path.cwd(), package) if (base / CARDS).is_dir())


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read as JSON: {error}", "Copy the model again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file}: not a model's configuration", "Copy the model again.")
    return content | _parameters(file.parent)


def _parameters(folder: Path) -> dict[str, float]:
    """Parameters counted from the size of the weights, two bytes each."""
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return {"parameters": weights / 2} if weights else {}


def _parse(content: Mapping[str, Any], source: str) -> Architecture:
    text = {key: value for key, value in (content.get("text_config") or {}).items() if value is not None}
    fields = _renamed({**content, **text, "architectures": content.get("architectures")})
    try:
        return Architecture.model_validate({**fields, "source": source})
    except ValidationError as error:
        missing = ", ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ModelError(f"{source}: {missing}", "Give a config.json or a card with these fields.") from error


_NAMES = {
    "num_hidden_layers": ("decoder_layers", "num_hidden_layers", "n_layer", "num_layers"),
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "num_attention_heads": ("num_attention_heads", "n_head", "num_heads", "decoder_attention_heads"),
    "num_experts": ("num_experts", "n_routed_experts", "num_local_experts"),
}
"""The same figure has other names in other families; the first that is there counts."""


def _renamed(content: dict[str, Any]) -> dict[str, Any]:
    found = {
        field: next(content[name] for name in names if content.get(name) is not None)
        for field, names in _NAMES.items()
        if any(content.get(name) is not None for name in names)
    }
    return {key: value for key, value in content.items() if value is not None} | found
