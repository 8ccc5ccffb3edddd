"""A decoder-only model as one program: what the emulated Xlite runs instead of the model's modules.

Built once from the loaded model (Llama, Qwen2, Qwen3, Qwen3-MoE of vLLM 0.32.0, split over tensor-parallel ranks or
not). It works on the model's own weights and on vLLM's paged KV cache, and calls the kernels of vLLM's CPU build
directly: no module, no forward context and no opaque operator stands between them, and norms are one kernel each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from vllm.distributed.parallel_state import get_tp_group

_ops = torch.ops._C

Unary = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class XliteStep:
    """What one forward works on besides its tokens.

    Attributes:
        positions: Position of each token.
        metadata: vLLM's attention metadata of the step, equal in all layers.
        slots: Place in the KV cache of each token.
        caches: Keys and values of each layer, in the layout of vLLM's CPU attention.
    """

    positions: torch.Tensor
    metadata: Any
    slots: torch.Tensor
    caches: Sequence[tuple[torch.Tensor, torch.Tensor]]


Attention = Callable[[torch.Tensor, XliteStep, int], torch.Tensor]
NormInPlace = Callable[[torch.Tensor, torch.Tensor], Any]


@dataclass(frozen=True, slots=True)
class _Layer:
    attention: Attention
    norm_after_attention: NormInPlace
    mlp: Unary
    norm_after_mlp: NormInPlace


class WholeModelProgram:
    """The forward of a whole model.

    Args:
        model: A loaded model of vLLM, for example ``Qwen3ForCausalLM``.
    """

    def __init__(self, model: Any) -> None:
        decoder = model.model
        self._embed: Unary = decoder.embed_tokens
        self._first_norm = _norm(decoder.layers[0].input_layernorm)
        followers = [*(layer.input_layernorm for layer in decoder.layers[1:]), decoder.norm]
        self._layers = [_layer(layer, follower) for layer, follower in zip(decoder.layers, followers, strict=True)]

    def __call__(self, input_ids: torch.Tensor, step: XliteStep) -> torch.Tensor:
        """Run one forward.

        Args:
            input_ids: Tokens, of shape ``(tokens,)``.
            step: What it works on.

        Returns:
            Normalised hidden states, of shape ``(tokens, hidden size)``.
        """
        residual = self._embed(input_ids)
        hidden = self._first_norm(residual)
        for index, layer in enumerate(self._layers):
            hidden = layer.attention(hidden, step, index)
            layer.norm_after_attention(hidden, residual)
            hidden = layer.mlp(hidden)
            layer.norm_after_mlp(hidden, residual)
        return hidden


def cache_views(kv_cache: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of one layer, as vLLM's CPU attention (0.32.0) lays them out in one block."""
    blocks, heads, block_size, _ = kv_cache.size()
    keys, values = kv_cache.view(blocks, heads, 2 * block_size, -1).chunk(2, dim=2)
    return keys, values


def _layer(layer: Any, follower: Any) -> _Layer:
    mlp = _experts(layer.mlp) if hasattr(layer.mlp, "experts") else _mlp(layer.mlp)
    return _Layer(
        _attention(layer.self_attn), _add_and_norm(layer.post_attention_layernorm), mlp, _add_and_norm(follower)
    )


def _norm(module: Any) -> Unary:
    rms_norm, weight, eps = _ops.rms_norm.default, module.weight.detach(), module.variance_epsilon

    def run(x: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(x)
        rms_norm(out, x, weight, eps)
        return out

    return run


def _add_and_norm(module: Any) -> NormInPlace:
    """Adds its input to the residual, and normalises the sum into its input."""
    kernel, weight, eps = _ops.fused_add_rms_norm.default, module.weight.detach(), module.variance_epsilon
    return lambda x, residual: kernel(x, residual, weight, eps)


def _linear(module: Any) -> Unary:
    matmul, weight, bias = module.cpu_linear, module.weight, module.bias
    return lambda x: matmul(x, weight, bias)


def _reduced(module: Any) -> Unary:
    """A linear layer whose ranks hold parts of the sum."""
    group = get_tp_group()
    if group.world_size == 1:
        return _linear(module)
    matmul, weight = module.cpu_linear, module.weight
    bias = module.bias if group.rank_in_group == 0 else None
    return lambda x: group.all_reduce(matmul(x, weight, bias))


def _mlp(module: Any) -> Unary:
    gate_up, down, silu_and_mul = _linear(module.gate_up_proj), _reduced(module.down_proj), _ops.silu_and_mul.default

    def run(x: torch.Tensor) -> torch.Tensor:
        both = gate_up(x)
        out = both.new_empty(both.size(0), both.size(1) // 2)
        silu_and_mul(out, both)
        return down(out)

    return run


def _experts(module: Any) -> Unary:
    """Routing and experts; on several ranks each has a slice of every expert."""
    gate, routed, group = _linear(module.gate), module.experts.routed_experts, get_tp_group()
    kernel = routed.quant_method.moe_kernel.fused_experts
    w13, w2, isa, experts = routed.w13_weight.detach(), routed.w2_weight.detach(), kernel.isa, _ops.cpu_fused_moe
    top_k, renormalize = routed.top_k, routed.renormalize

    def run(x: torch.Tensor) -> torch.Tensor:
        weights, chosen = _route(gate(x), top_k, renormalize)
        out = torch.empty_like(x)
        experts(out, x, w13, w2, None, None, weights, chosen, False, "silu", isa)
        return out if group.world_size == 1 else group.all_reduce(out)

    return run


def _route(logits: torch.Tensor, top_k: int, renormalize: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights and numbers of the chosen experts, each of shape ``(tokens, top_k)``."""
    scores = logits if renormalize else torch.softmax(logits, dim=-1, dtype=torch.float32)
    weights, chosen = torch.topk(scores, top_k, dim=-1, sorted=False)
    if renormalize:
        weights = torch.softmax(weights, dim=-1, dtype=torch.float32)
    return weights, chosen.to(torch.int32)


def _attention(module: Any) -> Attention:
    layer, impl, rope = module.attn, module.attn.impl, module.rotary_emb
    heads, kv_heads, size = module.num_heads, module.num_kv_heads, module.head_dim
    parts = [heads * size, kv_heads * size, kv_heads * size]
    project, output = _linear(module.qkv_proj), _reduced(module.o_proj)
    rotate, attend = _ops.rotary_embedding.default, _paged_attention(layer, impl)
    normalise = _head_norms(module)

    def run(x: torch.Tensor, step: XliteStep, index: int) -> torch.Tensor:
        query, key, value = project(x).split(parts, dim=-1)
        query, key = normalise(query, key)
        rotate(step.positions, query, key, size, rope.cos_sin_cache, rope.is_neox_style)
        tokens = query.size(0)
        out = attend(
            query.view(tokens, heads, size),
            key.view(tokens, kv_heads, size),
            value.view(tokens, kv_heads, size),
            step,
            index,
        )
        return output(out.view(tokens, heads * size))

    return run


def _head_norms(module: Any) -> Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Norms of queries and keys per head, where the model has them; the kernel takes rows without gaps alone."""
    if not hasattr(module, "q_norm"):
        return lambda query, key: (query, key)
    query_norm, key_norm, size = _norm(module.q_norm), _norm(module.k_norm), module.head_dim

    def run(query: torch.Tensor, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (
            query_norm(query.contiguous().view(-1, size)).view(query.size()),
            key_norm(key.contiguous().view(-1, size)).view(key.size()),
        )

    return run


def _paged_attention(
    layer: Any, impl: Any
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor, XliteStep, int], torch.Tensor]:
    """Write keys and values to the cache, then attend; the kernels of vLLM's ``CPUAttentionBackendImpl`` (0.32.0)."""
    store, attend = _ops.cpu_attn_reshape_and_cache.default, _ops.cpu_attention_with_kv_cache.default
    scales = (layer._k_scale_float, layer._v_scale_float, impl.kv_cache_dtype)

    def run(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, step: XliteStep, index: int) -> torch.Tensor:
        keys, values = step.caches[index]
        meta = step.metadata
        store(key, value, keys, values, step.slots, layer.isa, *scales)
        out, tokens = torch.empty(query.size(), dtype=query.dtype), meta.num_actual_tokens
        attend(
            query[:tokens],
            keys,
            values,
            out[:tokens],
            meta.query_start_loc,
            meta.seq_lens,
            impl.scale,
            meta.causal,
            impl.alibi_slopes,
            impl.sliding_window,
            meta.block_table,
            impl.logits_soft_cap,
            meta.scheduler_metadata,
            impl.sinks,
            None,
            *scales,
        )
        return out

    return run
