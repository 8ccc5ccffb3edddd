"""What planning needs to know of a model, with the field names of the published ``config.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ascend_serve.errors import ModelError
from ascend_serve.graph.model_fields import decoder_fields, longest_request, without_nulls
from ascend_serve.graph.narrowing import GraphSupport


class AttentionBackend(StrEnum):
    """Attention backends, by their modules: of vllm-ascend 0.23.0 (``NPUPlatform.get_attn_backend_cls``), and of vLLM
    0.23.0 for layers with a state instead of a cache (``MambaAttentionBackendEnum``)."""

    ATTENTION_V1 = "attention_v1"
    MLA_V1 = "mla_v1"
    SFA_V1 = "sfa_v1"
    DSA_V1 = "dsa_v1"
    GDN_ATTN = "gdn_attn"
    MAMBA_ATTN = "mamba_attn"
    SHORT_CONV_ATTN = "short_conv_attn"
    LINEAR_ATTN = "linear_attn"

    @property
    def support(self) -> GraphSupport:
        """What its builder declares, with and without context parallelism (``get_cudagraph_support``)."""
        declared = {
            AttentionBackend.ATTENTION_V1: GraphSupport.ALWAYS,
            AttentionBackend.LINEAR_ATTN: GraphSupport.UNIFORM_SINGLE_TOKEN_DECODE,
        }
        return declared.get(self, GraphSupport.UNIFORM_BATCH)


_STATES = {
    "linear_attention": AttentionBackend.GDN_ATTN,
    "conv": AttentionBackend.SHORT_CONV_ATTN,
    "mamba": AttentionBackend.MAMBA_ATTN,
    "mamba2": AttentionBackend.MAMBA_ATTN,
}
"""Entries of ``layer_types`` for layers with a state, and their backend."""

_LIGHTNING = ("minimax", "bailing")
"""Families (by the start of ``model_type``) whose linear attention is vLLM's ``LinearAttention``."""


class Architecture(BaseModel):
    """A model as far as planning goes; field names are those of ``config.json``.

    Attributes:
        architectures: Class names; empty where the file names none.
        num_attention_heads: Of the whole model; ``None`` where the file leaves it to a default of the model's class.
        layer_types: The kind of each layer, where the family says so.
        attn_type_list: The same in another family: 0 for linear attention, 1 for softmax.
        full_attention_interval: Every how many layers there is full attention; linear attention in the others.
        layer_group_size: The same in another family.
        linear_attn_config: Which layers have linear attention, in yet another.
        ssm_state_size: Size of a state; given where there are layers of Mamba.
        max_model_len: Tokens of the longest request, prompt and answer; ``None`` where the file does not say.
        head_dim: Size of a head; ``None`` where it follows from the hidden size.
        qk_rope_head_dim: What latent attention keeps of a key beside the latent vector.
        intermediate_size: Of a dense layer's feed-forward network.
        sliding_window: Tokens that layers with a window keep.
        moe_intermediate_size: Of one expert.
        first_k_dense_replace: Layers at the beginning that have no experts.
        weight_bytes: Size of the weights' files; ``None`` where they are not there.
        torch_dtype: Type of the weights, by its name.
        parameters: Number of parameters, published or counted from the files; ``None`` when unknown.
        source: Where this was read from.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    architectures: tuple[str, ...] = ()
    model_type: str = ""
    num_hidden_layers: int = Field(ge=1)
    hidden_size: int | None = Field(None, ge=1)
    num_attention_heads: int | None = Field(None, ge=1)
    num_key_value_heads: int | None = None
    num_experts: int = 0
    kv_lora_rank: int | None = None
    index_topk: int | None = None
    compress_ratios: tuple[int, ...] | None = None
    layer_types: tuple[str, ...] = ()
    attn_type_list: tuple[int, ...] = ()
    full_attention_interval: int | None = None
    layer_group_size: int | None = None
    linear_attn_config: dict[str, Any] | None = None
    ssm_state_size: int | None = None
    max_model_len: int | None = None
    head_dim: int | None = None
    qk_rope_head_dim: int = 0
    intermediate_size: int | None = None
    sliding_window: int | None = None
    moe_intermediate_size: int | None = None
    first_k_dense_replace: int = 0
    weight_bytes: float | None = None
    torch_dtype: str | None = None
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
        part = ""
        try:
            fields = decoder_fields(content)
            part = fields.part
            figures = {"max_model_len": longest_request(fields.values), "torch_dtype": fields.values.get("dtype")}
            return cls.model_validate({**without_nulls(figures), **fields.values, "source": source})
        except ValidationError as error:
            wrong = ", ".join(f"{part}{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
            raise ModelError(f"{source}: {wrong}", "Give a config.json or a card with these fields.") from error
        except ValueError as error:
            raise ModelError(f"{source}: {error}", "Copy the model again.") from error

    @property
    def name(self) -> str:
        """Class name of the architecture, for example ``Qwen3ForCausalLM``; the model's type where none is named."""
        return next(iter(self.architectures), self.model_type or "unknown architecture")

    @property
    def is_moe(self) -> bool:
        """Whether the model is a mixture of experts."""
        return self.num_experts > 0

    @property
    def head_size(self) -> int | None:
        """Size of a head of attention, where it is known."""
        if self.head_dim or self.hidden_size is None or self.num_attention_heads is None:
            return self.head_dim
        return self.hidden_size // self.num_attention_heads

    @property
    def expert_share(self) -> float:
        """Share of the parameters that experts have, 0 to 1; 0 where it cannot be counted."""
        size, hidden = self.moe_intermediate_size, self.hidden_size
        if not self.is_moe or size is None or hidden is None or not self.parameters:
            return 0.0
        layers = self.num_hidden_layers - self.first_k_dense_replace
        return min(0.99, layers * self.num_experts * 3 * hidden * size / self.parameters)

    @property
    def attention_layers(self) -> int:
        """Layers that keep keys and values of every token."""
        states = sum(kind in _STATES for kind in self.layer_types) or self.attn_type_list.count(0)
        interval = self.full_attention_interval or self.layer_group_size or 1
        if not states and interval > 1:
            return self.num_hidden_layers // interval
        return self.num_hidden_layers - states

    @property
    def backends(self) -> tuple[AttentionBackend, ...]:
        """The backends of its layers: the one of attention that vllm-ascend chooses, then those of states."""
        return (*self._attention(), *self._states())

    @property
    def backend(self) -> AttentionBackend:
        """The weakest of its backends: vLLM narrows the mode to what the least of the builders declares."""
        return min(self.backends, key=lambda backend: backend.support)

    def _attention(self) -> Iterator[AttentionBackend]:
        if self.compress_ratios is not None:
            yield AttentionBackend.DSA_V1
        elif self.index_topk is not None:
            yield AttentionBackend.SFA_V1
        elif self.kv_lora_rank is not None:
            yield AttentionBackend.MLA_V1
        elif self.num_attention_heads is not None or not self.ssm_state_size:
            yield AttentionBackend.ATTENTION_V1

    def _states(self) -> Iterator[AttentionBackend]:
        """In a fixed order, so that the same model always has the same weakest backend."""
        kinds = Counter(self.layer_types)
        found = {backend for kind, backend in _STATES.items() if kinds[kind]}
        grouped = (self.full_attention_interval or 1) > 1 or (self.layer_group_size or 1) > 1
        if 0 in self.attn_type_list or grouped or self.linear_attn_config:
            found.add(AttentionBackend.GDN_ATTN)
        if self.ssm_state_size:
            found.add(AttentionBackend.MAMBA_ATTN)
        lightning = self.model_type.startswith(_LIGHTNING)
        for backend in AttentionBackend:
            if backend in found:
                yield AttentionBackend.LINEAR_ATTN if lightning else backend
