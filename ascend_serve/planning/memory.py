"""Whether it fits: weights, KV cache, tokens and requests at once on each NPU.

The KV cache of a token is vLLM's (0.23.0 and 0.32.0): ``FullAttentionSpec.page_size_bytes``, two vectors for each head
of the rank and each layer of the stage, and ``MLAAttentionSpec``'s one latent vector, which every rank holds. What is
left for it is ``Worker.determine_available_memory``'s: the share ``gpu_memory_utilization`` of the device without
weights and graphs. Activations, buffers of HCCL and fragments are known to a profile run alone, so what is left here is
the most there can be.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from pydantic import BaseModel, ConfigDict

from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.graph.architecture import Architecture, AttentionBackend
from ascend_serve.graph.hardware import MEMORY_GIB
from ascend_serve.planning.settings import EngineSettings

GIB = 2**30

_HALF = 2.0
"""Bytes of a number in the half precision that vLLM runs models in unless it is told otherwise."""

_BYTES = {"float32": 4.0, "fp8": 1.0, "int8": 1.0, "w8": 1.0, "w4": 0.5, "int4": 0.5, "fp4": 0.5}
"""Bytes of a number by a part of the name of its type."""

_PER_LAYER = frozenset({AttentionBackend.ATTENTION_V1, AttentionBackend.MLA_V1, AttentionBackend.SFA_V1})
"""Backends whose layers keep something of each token that the formulas know."""


class MemoryFigures(BaseModel):
    """Memory of each NPU of one engine, in GiB; ``None`` where a figure is not known.

    Attributes:
        device_gib: Memory of an NPU.
        weights_gib: Weights on the NPU that has most of them.
        graphs_gib: Most that graphs take, estimated.
        kv_cache_gib: Most that the KV cache can have.
        kv_bytes_per_token: What a token takes of it.
        kv_tokens: Tokens that fit, of all ranks of an engine together.
        longest_request: Tokens of the longest request that is allowed.
        requests_at_once: Requests of that length that fit, at most ``max_num_seqs``; more where they are shorter.
        replicas: Replicas that fit on the machines.
        fits: Whether a request of that length fits; what is not known counts as nothing.
    """

    model_config = ConfigDict(frozen=True)

    device_gib: float | None
    weights_gib: float | None
    graphs_gib: float | None
    kv_cache_gib: float | None
    kv_bytes_per_token: int | None
    kv_tokens: int | None
    longest_request: int | None
    requests_at_once: float | None
    replicas: int
    fits: bool | None


@dataclass(frozen=True, slots=True)
class _Rank:
    """What one rank holds, from the configuration and the model."""

    config: AscendServeConfig
    model: Architecture
    settings: EngineSettings

    @property
    def layers(self) -> int:
        """Layers of the largest stage."""
        return ceil(self.model.num_hidden_layers / self.config.parallel.pipeline_parallel_size)

    @property
    def weights(self) -> float | None:
        """Bytes of weights: experts are over the ranks of tensor and data parallelism where they are spread."""
        total = self.model.weight_bytes
        if total is None and self.model.parameters is not None:
            total = self.model.parameters * _bytes_of(self.settings.quantization or self.settings.dtype)
        if total is None:
            return None
        parallel = self.config.parallel
        tensor, stages = parallel.tensor_parallel_size, parallel.pipeline_parallel_size
        spread = tensor * (parallel.data_parallel_size if parallel.enable_expert_parallel else 1)
        experts = total * self.model.expert_share
        return ((total - experts) / tensor + experts / spread) / stages

    @property
    def token_bytes(self) -> int | None:
        """Bytes of a token in the KV cache of this rank; ``None`` where a figure is missing."""
        numbers = self._numbers_per_layer()
        if numbers is None:
            return None
        cached = self.settings.kv_cache_dtype
        size = _bytes_of(self.settings.dtype if cached == "auto" else cached)
        attention = ceil(self.model.attention_layers * self.layers / self.model.num_hidden_layers)
        return ceil(numbers * size * attention)

    def _numbers_per_layer(self) -> int | None:
        model = self.model
        if not _PER_LAYER & set(model.backends):
            return None
        if model.kv_lora_rank is not None:
            return model.kv_lora_rank + model.qk_rope_head_dim
        heads, size = model.num_key_value_heads or model.num_attention_heads, model.head_size
        if heads is None or size is None:
            return None
        return 2 * max(1, heads // self.config.parallel.tensor_parallel_size) * size


def memory_figures(
    config: AscendServeConfig, model: Architecture, settings: EngineSettings, graphs_gib: float | None
) -> MemoryFigures:
    """Count what fits on each NPU.

    Args:
        config: The configuration.
        model: The model.
        settings: What planning reads of the section ``vllm``.
        graphs_gib: Most that graphs take.
    """
    rank = _Rank(config, model, settings)
    cache = _kv_cache(rank, graphs_gib)
    per_token, longest = rank.token_bytes, _longest(model, settings)
    tokens = None
    if cache is not None and per_token:
        tokens = int(max(0.0, cache) // per_token) * settings.decode_context_parallel_size
    return MemoryFigures(
        device_gib=_device_gib(config),
        weights_gib=_gib(rank.weights),
        graphs_gib=graphs_gib,
        kv_cache_gib=_gib(cache),
        kv_bytes_per_token=per_token,
        kv_tokens=tokens,
        longest_request=longest,
        requests_at_once=None if tokens is None or longest is None else _at_once(tokens, longest, settings),
        replicas=_replicas(config),
        fits=None if tokens is None or longest is None else tokens >= longest,
    )


def _at_once(tokens: int, longest: int, settings: EngineSettings) -> float:
    return min(float(settings.max_num_seqs), round(tokens / longest, 2))


def _kv_cache(rank: _Rank, graphs_gib: float | None) -> float | None:
    if rank.settings.kv_cache_memory_bytes is not None:
        return float(rank.settings.kv_cache_memory_bytes)
    device, weights = _device_gib(rank.config), rank.weights
    if device is None or weights is None:
        return None
    return device * GIB * rank.settings.gpu_memory_utilization - weights - (graphs_gib or 0.0) * GIB


def _device_gib(config: AscendServeConfig) -> float | None:
    """Emulated NPUs have the memory of their host, which they share."""
    if config.emulated.npus:
        return None
    return config.hardware.npu_memory_gib or MEMORY_GIB[config.hardware.soc]


def _longest(model: Architecture, settings: EngineSettings) -> int | None:
    return settings.stated_model_len or model.max_model_len


def _replicas(config: AscendServeConfig) -> int:
    npus = config.emulated.npus or config.hardware.nodes * config.hardware.npus_per_node
    return npus // config.parallel.world_size


def _gib(size: float | None) -> float | None:
    return None if size is None else round(size / GIB, 2)


def _bytes_of(kind: str) -> float:
    if kind == "float":
        return _BYTES["float32"]
    return next((size for part, size in _BYTES.items() if part in kind.lower()), _HALF)
