"""What planning needs to know of a model, with the field names of the published ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ascend_serve.errors import ModelError
from ascend_serve.graph.narrowing import GraphSupport


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

    @classmethod
    def of(cls, content: Mapping[str, Any], source: str) -> Self:
        """Read the content of a ``config.json`` or of a card.

        Args:
            content: The content.
            source: Where it was read from.

        Raises:
            ModelError: A field is missing or has a wrong type.
        """
        text = {key: value for key, value in (content.get("text_config") or {}).items() if value is not None}
        fields = _renamed({**content, **text, "architectures": content.get("architectures")})
        try:
            return cls.model_validate({**fields, "source": source})
        except ValidationError as error:
            missing = ", ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise ModelError(f"{source}: {missing}", "Give a config.json or a card with these fields.") from error

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
