"""vLLM's CPU attention as the emulated NPU uses it: an encoder's batch that is padded to a captured size."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from vllm import _custom_ops as ops
from vllm.v1.attention.backend import AttentionType
from vllm.v1.attention.backends import cpu_attn

from ascend_serve.emulated.attention import EmulatedNPUAttentionImpl

TOKENS, PADDED, HEADS, SIZE, BLOCK = 5, 8, 2, 32, 32


@pytest.fixture
def impl(monkeypatch: pytest.MonkeyPatch) -> EmulatedNPUAttentionImpl:
    config = SimpleNamespace(model_config=SimpleNamespace(dtype=torch.float32))
    monkeypatch.setattr(cpu_attn, "get_current_vllm_config", lambda: config)
    encoder = AttentionType.ENCODER_ONLY
    return EmulatedNPUAttentionImpl(HEADS, SIZE, SIZE**-0.5, HEADS, None, None, "auto", attn_type=encoder)


def test_rows_that_pad_a_batch_reach_no_slot(impl: EmulatedNPUAttentionImpl) -> None:
    torch.manual_seed(1)
    query, key, value = (torch.randn(PADDED, HEADS, SIZE) for _ in range(3))
    isa = cpu_attn._get_attn_isa(torch.float32, BLOCK, SIZE)
    starts, lengths = torch.tensor([0, TOKENS], dtype=torch.int32), torch.tensor([TOKENS], dtype=torch.int32)
    # The step needs the first block; slots behind its tokens are left from other steps.
    cache = torch.zeros(2, HEADS, BLOCK, 2 * SIZE)
    slots = torch.cat([torch.arange(TOKENS), BLOCK + torch.arange(PADDED - TOKENS)])
    schedule = ops.cpu_attn_get_scheduler_metadata(
        num_reqs=1,
        num_heads=HEADS,
        num_kv_heads=HEADS,
        head_dim=SIZE,
        seq_lens=lengths,
        dtype=torch.float32,
        query_start_loc=starts,
        causal=False,
        sliding_window_size=-1,
        isa=isa,
        enable_kv_split=False,
        dynamic_causal=None,
        kv_cache_dtype="auto",
    )
    metadata = cpu_attn.CPUAttentionMetadata(
        num_actual_tokens=TOKENS,
        max_query_len=TOKENS,
        query_start_loc=starts,
        max_seq_len=TOKENS,
        seq_lens=lengths,
        block_table=torch.zeros(1, 1, dtype=torch.int32),
        slot_mapping=slots,
        scheduler_metadata=schedule,
        causal=False,
        encoder_cache=cache,
    )
    layer = SimpleNamespace(isa=isa, _k_scale_float=1.0, _v_scale_float=1.0)
    out = impl.forward(layer, query, key, value, cache, metadata, output=torch.zeros(PADDED, HEADS, SIZE))
    assert not cache[1].any()
    q, k, v = (tensor[:TOKENS].transpose(0, 1) for tensor in (query, key, value))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(0, 1)
    torch.testing.assert_close(out[:TOKENS], expected, rtol=1e-4, atol=1e-4)
