"""What vLLM refuses of a model with these parallel sizes and lengths, when it builds its configuration or its layers.

The checks are those of vLLM 0.23.0 and 0.32.0 that follow from a configuration and a ``config.json`` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.errors import ConfigError, Problem
from ascend_serve.graph.architecture import Architecture, AttentionBackend
from ascend_serve.planning.settings import EngineSettings

ALLOW_LONG = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
"""vLLM's variable that lets ``max_model_len`` exceed what the model was made for."""


@dataclass(frozen=True, slots=True)
class _Limits:
    config: AscendServeConfig
    model: Architecture
    settings: EngineSettings
    environment: Mapping[str, str]

    @property
    def tensor(self) -> int:
        return self.config.parallel.tensor_parallel_size


def check_model_limits(
    config: AscendServeConfig, model: Architecture, settings: EngineSettings, environment: Mapping[str, str]
) -> None:
    """Refuse what the model cannot do, however many NPUs there are.

    Raises:
        ConfigError: With everything that vLLM would refuse, why, and what to change.
    """
    limits = _Limits(config, model, settings, environment)
    problems = [problem for rule in _RULES for problem in rule(limits)]
    if problems:
        raise ConfigError.of(config.model.name, problems)


def _heads(limits: _Limits) -> Iterator[Problem]:
    """``ModelConfig.verify_with_parallel_config``."""
    heads = limits.model.num_attention_heads
    if heads is not None and heads % limits.tensor:
        yield (
            f"parallel.tensor_parallel_size: {limits.tensor} does not divide the model's {heads} attention heads",
            _sizes(heads, limits.model.num_key_value_heads),
        )


def _key_value_heads(limits: _Limits) -> Iterator[Problem]:
    """``QKVParallelLinear``: ranks share the heads of keys and values, or each of these is on several ranks."""
    model, tensor = limits.model, limits.tensor
    heads = model.num_key_value_heads
    if (
        heads is None
        or AttentionBackend.ATTENTION_V1 not in model.backends
        or (model.num_attention_heads or 0) % tensor
    ):
        return
    if max(heads, tensor) % min(heads, tensor):
        yield (
            f"parallel.tensor_parallel_size: {tensor} and the model's {heads} heads of keys and values: "
            "neither is a multiple of the other",
            _sizes(model.num_attention_heads or heads, heads),
        )


def _sizes(heads: int, key_value_heads: int | None) -> str:
    shared = key_value_heads or heads
    sizes = [size for size in range(1, heads + 1) if not heads % size and not max(shared, size) % min(shared, size)]
    shown = [str(size) for size in sizes if size <= _MOST_SHOWN]
    return f"Set parallel.tensor_parallel_size to one of {', '.join(shown)}."


_MOST_SHOWN = 64


def _feed_forward(limits: _Limits) -> Iterator[Problem]:
    """``vllm.distributed.utils.divide``, for a dense model."""
    size = limits.model.intermediate_size
    if size is not None and not limits.model.is_moe and size % limits.tensor:
        yield (
            f"parallel.tensor_parallel_size: {limits.tensor} does not divide the model's intermediate_size {size}",
            "Set parallel.tensor_parallel_size to a divisor of it.",
        )


def _experts(limits: _Limits) -> Iterator[Problem]:
    """``ModelConfig._verify_with_expert_parallelism``."""
    if limits.config.parallel.enable_expert_parallel and not limits.model.is_moe:
        yield (
            f"parallel.enable_expert_parallel: true, and {limits.model.name} has no experts",
            "Set parallel.enable_expert_parallel=false.",
        )


def _length(limits: _Limits) -> Iterator[Problem]:
    """``_get_and_verify_max_len``."""
    asked, most = limits.settings.stated_model_len, limits.model.max_model_len
    allowed = limits.environment.get(ALLOW_LONG, "0").lower() in ("1", "true")
    if asked is not None and most is not None and asked > most and not allowed:
        yield (
            f"vllm.max_model_len: {asked} is more than the {most} tokens that the model is made for",
            f"Set vllm.max_model_len={most}, or less; a model made longer by YaRN says so in "
            "vllm.hf_overrides.rope_parameters.",
        )
    if asked == 0:
        yield f"vllm.max_model_len: {asked} is no length", "Set 1 or more tokens, or leave it out."


def _batch(limits: _Limits) -> Iterator[Problem]:
    """``SchedulerConfig.verify_max_model_len``."""
    settings = limits.settings
    tokens, requests = settings.max_num_batched_tokens, settings.max_num_seqs
    if tokens is not None and tokens < requests:
        yield (
            f"vllm.max_num_batched_tokens: {tokens} is less than vllm.max_num_seqs: {requests}",
            f"Set vllm.max_num_batched_tokens={requests}, or more.",
        )
    length = settings.stated_model_len or limits.model.max_model_len
    threshold = settings.long_prefill_token_threshold
    if length is not None and threshold > length:
        yield (
            f"vllm.long_prefill_token_threshold: {threshold} is more than the longest request, {length} tokens",
            f"Set vllm.long_prefill_token_threshold={length}, or less.",
        )
    if settings.enable_chunked_prefill is False and tokens is not None and length is not None and tokens < length:
        yield (
            f"vllm.max_num_batched_tokens: {tokens} is less than the longest request, {length} tokens, and "
            "vllm.enable_chunked_prefill is false",
            f"Set vllm.max_num_batched_tokens={length}, or vllm.enable_chunked_prefill=true.",
        )


def _decode_context(limits: _Limits) -> Iterator[Problem]:
    """``ParallelConfig`` and ``ModelConfig.verify_with_parallel_config``."""
    shards, tensor = limits.settings.decode_context_parallel_size, limits.tensor
    if limits.settings.prefill_context_parallel_size > 1 or shards == 1:
        return
    if tensor % shards:
        yield (
            f"vllm.decode_context_parallel_size: {shards} does not divide parallel.tensor_parallel_size: {tensor}",
            "Set it to a divisor.",
        )
    elif AttentionBackend.ATTENTION_V1 in limits.model.backends:
        heads = limits.model.num_key_value_heads or limits.model.num_attention_heads
        if heads is not None and shards > tensor // heads:
            yield (
                f"vllm.decode_context_parallel_size: {shards} is more than parallel.tensor_parallel_size {tensor} over "
                f"the model's {heads} heads of keys and values",
                "Set vllm.decode_context_parallel_size=1, or a larger parallel.tensor_parallel_size.",
            )


_EMBEDS_NGRAMS = ("DeepseekV41ForCausalLM", "Qwen4ExpForCausalLM", "Qwen4ExpForConditionalGeneration")
"""``_NGRAM_LAYER_FIELDS`` of ``vllm.config.engram``, 0.32.0."""
_DEEPSEEK_V4 = "DeepseekV4"
_STATES = {AttentionBackend.GDN_ATTN, AttentionBackend.MAMBA_ATTN}


def _other_models(limits: _Limits) -> Iterator[Problem]:
    """``VllmConfig``, 0.32.0: arguments for models of other kinds."""
    asked, names = limits.config.vllm, limits.model.architectures
    if asked.get("engram_config") is not None and names and not {*names} & {*_EMBEDS_NGRAMS}:
        yield f"vllm.engram_config: set, and {limits.model.name} embeds no n-grams", "Leave it out."
    if asked.get("use_replayssm") and not {*limits.model.backends} & _STATES:
        yield f"vllm.use_replayssm: true, and {limits.model.name} keeps no states", "Leave it out."
    backend = asked.get("moe_backend")
    if backend == "flashinfer_moe_ep_mega_deep_gemm" and not any(name.startswith(_DEEPSEEK_V4) for name in names):
        yield f"vllm.moe_backend: {backend} is for DeepSeek-V4 alone", "Leave it out."


_RULES: tuple[Callable[[_Limits], Iterator[Problem]], ...] = (
    _heads,
    _key_value_heads,
    _feed_forward,
    _experts,
    _length,
    _batch,
    _decode_context,
    _other_models,
)
