"""The fields of a published ``config.json`` that describe the decoder, wherever a family of models puts them.

vLLM (0.23.0 and 0.32.0) asks transformers for the text part (``PretrainedConfig.get_text_config``), which knows
``text_config``, ``decoder`` and ``generator``, and classes of single families know theirs. The code of those classes is
not here, so the same parts are found by their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

TEXT_PARTS = (
    "text_config",
    "thinker_config",
    "llm_config",
    "language_config",
    "language_model_config",
    "transformer_layer_config",
    "decoder",
    "generator",
)
"""What families of models call their text part: most multimodal ones, Qwen Omni, InternVL, DeepSeek-VL, Ovis, the draft
models of `speculators`, and composites of an encoder and a decoder."""

_OTHER_PARTS = re.compile(r"vision|visual|image|vit|video|audio|speech|talker|code|token2wav|draft|quant|mtp|encoder")
"""Parts of a model that are not its decoder."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "num_hidden_layers": ("decoder_layers", "num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads", "decoder_attention_heads"),
    "num_key_value_heads": (
        "num_key_value_heads",
        "n_head_kv",
        "num_kv_heads",
        "multi_query_group_num",
        "num_attention_groups",
    ),
    "num_experts": ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts"),
    "ssm_state_size": ("ssm_state_size", "mamba_d_state", "mamba_state_dim", "state_size"),
    "num_nextn_predict_layers": ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules"),
}
"""The same figure has other names in other families; the first that is there counts. Those of heads and experts are the
ones that vLLM's ``ModelArchConfigConvertorBase`` knows."""


LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
"""What families of models call the longest request; the smallest counts (``derive_max_model_len_and_key``)."""

_SCALED_ALREADY = ("su", "longrope", "llama3")


@dataclass(frozen=True, slots=True)
class ModelFields:
    """What a ``config.json`` says of the decoder.

    Attributes:
        values: By the name that most families use; nothing that is null.
        part: The keys below which they stand, with a dot at the end; empty where they stand at the top.
    """

    values: Mapping[str, Any]
    part: str


def decoder_fields(content: Mapping[str, Any]) -> ModelFields:
    """Find the fields of the decoder.

    Args:
        content: The content of a ``config.json`` or of an architecture card.

    Raises:
        ValueError: The part that should hold them is no mapping; with its key.
    """
    found, part = without_nulls(content), ""
    while (key := _text_part(found)) is not None:
        part += f"{key}."
        below = found.pop(key)
        if not isinstance(below, Mapping):
            raise ValueError(f"{part.removesuffix('.')}: {below!r} is no mapping")
        found = {**found, **without_nulls(below)}
    top = {"architectures": content.get("architectures")}
    return ModelFields(_renamed(without_nulls({**found, **top})), part)


def _text_part(fields: Mapping[str, Any]) -> str | None:
    known = next((name for name in TEXT_PARTS if name in fields), None)
    if known is not None or _layers(fields) is not None:
        return known
    parts = (name for name, value in fields.items() if isinstance(value, Mapping) and not _OTHER_PARTS.search(name))
    return next((name for name in parts if _layers(fields[name]) is not None or _text_part(fields[name])), None)


def _layers(fields: Mapping[str, Any]) -> Any:
    return next((fields[name] for name in NAMES["num_hidden_layers"] if fields.get(name) is not None), None)


def longest_request(fields: Mapping[str, Any]) -> int | None:
    """Tokens that vLLM lets a request have (``_get_and_verify_max_len``); the larger of 0.23.0's and 0.32.0's.

    They differ for YaRN: 0.23.0 multiplies the original length, 0.32.0 takes the length for the scaled one.
    """
    lengths = [fields[name] for name in LENGTHS if isinstance(fields.get(name), int)]
    if not lengths:
        return None
    length = int(fields.get("model_max_length") or min(lengths))
    if "gemma3" in str(fields.get("model_type")):
        return length
    return max([length, *(int(scaled) for rope in _ropes(fields) for scaled in _scaled(rope, length))])


def _ropes(fields: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parameters of rotary embeddings, one for all layers or one for each kind."""
    for name in ("rope_parameters", "rope_scaling"):
        given = fields.get(name)
        if isinstance(given, Mapping):
            yield from [given, *(below for below in given.values() if isinstance(below, Mapping))]


def _scaled(rope: Mapping[str, Any], length: int) -> Iterator[float]:
    kind, factor = rope.get("rope_type") or rope.get("type"), rope.get("factor")
    if isinstance(factor, int | float) and kind not in _SCALED_ALREADY:
        original = rope.get("original_max_position_embeddings") if "yarn" in str(kind) else None
        yield (original or length) * factor


def without_nulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    """``fields`` that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def _renamed(fields: Mapping[str, Any]) -> dict[str, Any]:
    found = {field: [fields[name] for name in names if name in fields] for field, names in NAMES.items()}
    return {**fields, **{field: _one(values[0]) for field, values in found.items() if values}}


def _one(value: Any) -> Any:
    """A figure that some families give for each layer: the largest."""
    numbers = isinstance(value, list) and value and all(isinstance(item, int) for item in value)
    return max(value) if numbers else value
