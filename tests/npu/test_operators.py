"""The simulated operators compute what torch computes on the CPU, in memory that was full of NaN before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch_npu

from tests.cann_sim import control
from tests.cann_sim.build import OPERATORS, operators

Case = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

ELEMENTWISE: dict[str, Case] = {
    "abs": lambda x, y: x.abs(),
    "add": lambda x, y: torch.add(x, y, alpha=2),
    "add a number": lambda x, y: x + 1.5,
    "add in place": lambda x, y: (x * 1).add_(y).add_(2),
    "subtract": lambda x, y: (x - y) - 3,
    "subtract from a number": lambda x, y: 1 - x,
    "subtract in place": lambda x, y: (x * 1).sub_(y).sub_(2),
    "multiply": lambda x, y: (x * y) * 2,
    "multiply in place": lambda x, y: (x * 1).mul_(y).mul_(2),
    "divide": lambda x, y: (x / y) / 2,
    "divide in place": lambda x, y: (x * 1).div_(y).div_(2),
    "negate": lambda x, y: -x,
    "functions": lambda x, y: x.exp() + x.sin() * x.cos() + x.abs().rsqrt() + x.relu() + x.reciprocal(),
    "silu": lambda x, y: torch.nn.functional.silu(x),
    "logarithm": lambda x, y: x.abs().log() + x.abs().log_(),
    "powers": lambda x, y: x**2 + x**3 + 2**x,
    "where": lambda x, y: torch.where(x > y, x, y),
    "masked fill": lambda x, y: (x * 1).masked_fill_(x > 0, 5.0),
    "masked fill by a tensor": lambda x, y: (x * 1).masked_fill_(x > 0, y[0, 0]),
    "clamp": lambda x, y: x.clamp(-0.5, 0.5) + x.clamp(min=0.1) + x.clamp(max=0.2),
    "maximum": lambda x, y: torch.maximum(x, y) - torch.minimum(x, y) * 2,
    "clamp at one end": lambda x, y: x.clamp_min(0.1) - x.clamp_max(0.2),
    "no NaN": lambda x, y: x.log().nan_to_num(nan=5.0) + (x / 0).nan_to_num(neginf=-7.0),
    "cast": lambda x, y: x.to(torch.int32),
    "bfloat16": lambda x, y: x.bfloat16() + y.bfloat16(),
}
COMPARISONS: dict[str, Case] = {
    "equal": lambda x, y: (x == y).logical_or(x == 1),
    "not equal": lambda x, y: (x != y).logical_and(x != 1),
    "greater": lambda x, y: (x > y).logical_and(x > 0),
    "greater or equal": lambda x, y: (x >= y).logical_and(x >= 0),
    "less": lambda x, y: (x < y).logical_and(x < 0),
    "less or equal": lambda x, y: (x <= y).logical_not(),
    "finite": lambda x, y: x.isfinite(),
    "bits": lambda x, y: (x.int() & y.int()) + (x.int() & 3) + ~y.int() + (x.int() | y.int()) + (x.int() | 3),
    "or in place": lambda x, y: (x > 0).logical_or_(y > 0),
    "the same tensor": lambda x, y: torch.tensor([torch.equal(x, y), torch.equal(x, x)]),
}
PRODUCTS: dict[str, Case] = {
    "matmul": lambda x, y: x @ y.t(),
    "mm": lambda x, y: torch.mm(x, y.t()),
    "bmm": lambda x, y: torch.bmm(x[None], y.t()[None]),
    "addmm": lambda x, y: torch.addmm(x @ y.t(), x, y.t(), beta=2, alpha=0.5),
    "linear": torch.nn.functional.linear,
}
REDUCTIONS: dict[str, Case] = {
    "sum": lambda x, y: x.sum(-1),
    "cumsum": lambda x, y: x.cumsum(0),
    "mean": lambda x, y: x.mean(0, keepdim=True),
    "max": lambda x, y: x.max() - x.min(),
    "max along a dimension": lambda x, y: torch.cat([part.float() for part in (*x.max(1), *x.min(1))]),
    "any": lambda x, y: (x > 1).any(),
    "any along a dimension": lambda x, y: (x > 1).any(dim=1) | (y > 1).any(dim=1),
    "argmax": lambda x, y: x.argmax(-1),
    "softmax": lambda x, y: x.softmax(-1),
    "log_softmax": lambda x, y: x.log_softmax(-1),
    "amax": lambda x, y: x.amax(-1, keepdim=True),
    "topk": lambda x, y: torch.cat([part.float() for part in x.topk(2)]),
    "sort": lambda x, y: x.sort(-1, descending=True).values,
}
SHAPES: dict[str, Case] = {
    "copy of a slice": lambda x, y: x[:, 1:3].contiguous(),
    "concatenation": lambda x, y: torch.cat([x, y.neg()], 1),
    "fill": lambda x, y: torch.full_like(x, 3.5) + torch.zeros_like(x) + torch.ones_like(x),
    "arange": lambda x, y: torch.arange(1, 9, 2, device=x.device) + 0,
    "repeat": lambda x, y: x.repeat(2, 1),
    "repeat each": lambda x, y: x.repeat_interleave(torch.tensor([2, 0, 1] * 4, device=x.device)),
    "padding": lambda x, y: torch.nn.functional.pad(x, (1, 2), value=4.0),
    "embedding": lambda x, y: torch.nn.functional.embedding(torch.tensor([2, 0], device=x.device), x),
    "index_select": lambda x, y: x.index_select(1, torch.tensor([3, 1], device=x.device)),
    "index": lambda x, y: x[torch.tensor([2, 0, 2], device=x.device)],
    "gather": lambda x, y: x.gather(1, torch.tensor([[3], [0], [2]], device=x.device)),
    "scatter": lambda x, y: x.scatter(1, torch.tensor([[3], [0], [2]], device=x.device), y[:, :1]),
    "scatter in place": lambda x, y: (x * 1).scatter_(1, torch.tensor([[3], [0], [2]], device=x.device), y[:, :1]),
    "scatter_add": lambda x, y: x.scatter_add(1, torch.tensor([[3, 3]], device=x.device), y[:1, :2]),
    "index_put": lambda x, y: (x * 1).index_put_((torch.tensor([2, 0], device=x.device),), y[:2]),
    "index_put by an empty mask": lambda x, y: (x * 1).index_put_((x > 9,), y[y > 9]),
    "index_fill": lambda x, y: (x * 1).index_fill_(1, torch.tensor([3, 1], device=x.device), 5.0),
    "ones": lambda x, y: torch.ones(3, device=x.device) + 0,
    "masked_select": lambda x, y: torch.masked_select(x, x > 0),
    "index by a mask": lambda x, y: x[x > 0],
    "nonzero": lambda x, y: (x > 0).nonzero(),
}
CASES = ELEMENTWISE | COMPARISONS | PRODUCTS | REDUCTIONS | SHAPES


def agree(got: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(got.cpu(), wanted, check_device=False)


@pytest.fixture
def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 4, generator=generator), torch.randn(3, 4, generator=generator)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_operators_agree_with_the_cpu(case: Case, tensors: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = tensors
    agree(case(x.npu(), y.npu()), case(x, y))


def test_rms_norm(tensors: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, weight = tensors[0], tensors[1][0].abs()
    got = torch_npu.npu_rms_norm(x.npu(), weight.npu(), 1e-6)[0]
    agree(got, torch.nn.functional.rms_norm(x, (4,), weight, 1e-6))


def test_rms_norm_of_a_sum(tensors: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, residual = tensors
    normed, _, total = torch_npu.npu_add_rms_norm(x.npu(), residual.npu(), residual[0].npu(), 1e-6)
    agree(total, x + residual)
    agree(normed, torch.nn.functional.rms_norm(x + residual, (4,), residual[0], 1e-6))


def test_random_numbers_are_those_of_their_seed() -> None:
    torch.npu.manual_seed(1)
    first, second = torch.randn(1000, device="npu"), torch.randn(1000, device="npu")
    torch.npu.manual_seed(1)
    assert torch.equal(first.cpu(), torch.randn(1000, device="npu").cpu())
    assert not torch.equal(first.cpu(), second.cpu())
    assert abs(float(first.cpu().mean())) < 0.2


def test_uniform_random_numbers() -> None:
    got = torch.empty(1000, device="npu").uniform_(2, 3).cpu()
    assert 2 <= float(got.min()) < 2.1
    assert 2.9 < float(got.max()) <= 3


def test_top_k_and_top_p() -> None:
    shares = torch.tensor([[0.1, 0.5, 0.15, 0.25], [0.4, 0.3, 0.2, 0.1]])
    p, k = torch.tensor([0.6, 1.0]), torch.tensor([4, 3], dtype=torch.int32)
    got = torch_npu.npu_top_k_top_p(shares.log().npu(), p.npu(), k.npu()).cpu()
    assert got.isfinite().tolist() == [[False, True, False, True], [True, True, True, False]]
    agree(got[got.isfinite()].exp(), torch.tensor([0.5, 0.25, 0.4, 0.3, 0.2]))


def test_another_type(tensors: tuple[torch.Tensor, torch.Tensor]) -> None:
    agree(torch_npu.npu_dtype_cast(tensors[0].npu(), torch.int32), tensors[0].int())


def test_swiglu(tensors: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, _ = tensors
    agree(torch_npu.npu_swiglu(x.npu()), torch.nn.functional.silu(x[:, :2]) * x[:, 2:])


def test_rotary_embedding() -> None:
    x, angle = torch.randn(2, 1, 3, 8), torch.randn(2, 1, 1, 8)
    got = torch_npu.npu_rotary_mul(x.npu(), angle.cos().npu(), angle.sin().npu())
    agree(got, x * angle.cos() + torch.cat([-x[..., 4:], x[..., :4]], -1) * angle.sin())


BLOCK, BLOCKS, HEADS, KV_HEADS, HEAD = 4, 6, 4, 2, 8


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """One request by torch: the last query sees the last key."""
    seen = torch.ones(len(query), len(key), dtype=torch.bool).tril(len(key) - len(query))
    q, k, v = (x.transpose(0, 1) for x in (query, key, value))
    k, v = (x.repeat_interleave(HEADS // KV_HEADS, 0) for x in (k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=HEAD**-0.5).transpose(0, 1)


def fused_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options: object) -> torch.Tensor:
    """Packed requests by the device."""
    result: torch.Tensor = torch_npu.npu_fused_infer_attention_score(
        *(x.npu() for x in (query, key, value)),
        atten_mask=torch.ones(2048, 2048, dtype=torch.int8).triu(1).npu(),
        input_layout="TND",
        num_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        scale=HEAD**-0.5,
        sparse_mode=3,
        **options,
    )[0]
    return result


def test_attention_of_packed_requests() -> None:
    query, (key, value) = torch.randn(5, HEADS, HEAD), torch.randn(2, 5, KV_HEADS, HEAD)
    got = fused_attention(query, key, value, actual_seq_lengths=[2, 5], actual_seq_lengths_kv=[2, 5])
    agree(got, torch.cat([attention(query[p], key[p], value[p]) for p in (slice(0, 2), slice(2, 5))]))


def test_attention_over_a_cache_of_blocks() -> None:
    query, (keys, values) = torch.randn(3, HEADS, HEAD), torch.randn(2, BLOCKS, BLOCK, KV_HEADS * HEAD)
    table = torch.tensor([[3, 1], [5, 0], [0, 0]], dtype=torch.int32)
    lengths = [7, 2, 0]
    got = fused_attention(
        query,
        keys,
        values,
        block_table=table.npu(),
        block_size=BLOCK,
        actual_seq_lengths=[1, 2, 3],
        actual_seq_lengths_kv=lengths,
    )
    for request in range(2):
        key, value = (x[table[request].long()].reshape(-1, KV_HEADS, HEAD)[: lengths[request]] for x in (keys, values))
        agree(got[request : request + 1], attention(query[request : request + 1], key, value))
    agree(got[2], torch.zeros(HEADS, HEAD))


def test_tokens_go_to_their_slots_of_the_cache() -> None:
    key, value = torch.randn(2, 3, KV_HEADS, HEAD)
    caches = [torch.zeros(BLOCKS, BLOCK, KV_HEADS, HEAD).npu() for _ in range(2)]
    torch_npu.npu_scatter_pa_kv_cache(
        key.npu(), value.npu(), *caches, torch.tensor([5, -1, 22], dtype=torch.int32).npu()
    )
    for cache, tokens in zip(caches, (key, value), strict=True):
        expected = torch.zeros(BLOCKS * BLOCK, KV_HEADS, HEAD)
        expected[5], expected[22] = tokens[0], tokens[2]
        agree(cache.flatten(0, 1), expected)


def test_quantisation_of_tokens(tensors: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, _ = tensors
    got, scale = torch_npu.npu_dynamic_quant(x.npu())
    agree(scale, x.abs().amax(-1) / 127)
    agree(got, (x * 127 / x.abs().amax(-1, keepdim=True)).round().to(torch.int8))


EXPERTS = torch.tensor([[0, 2], [1, 3], [2, 0]], dtype=torch.int32)
"""Two of four for each of three tokens."""


@pytest.mark.parametrize(("first", "last"), [(0, 4), (2, 4)], ids=["all experts", "experts of this rank"])
def test_tokens_go_to_their_experts_and_back(first: int, last: int) -> None:
    x, weights = torch.randn(3, 4), torch.randn(last - first, 4, 5)
    sent, rows, counts, _ = torch_npu.npu_moe_init_routing_v2(
        x.npu(),
        EXPERTS.npu(),
        active_num=EXPERTS.numel(),
        expert_num=4,
        expert_tokens_num_type=1,
        expert_tokens_num_flag=True,
        active_expert_range=[first, last],
        quant_mode=-1,
    )
    computed = torch_npu.npu_grouped_matmul(
        x=[sent], weight=[weights.npu()], split_item=2, group_list_type=1, group_type=0, group_list=counts
    )[0]
    shares = torch.rand(3, 2)
    got = torch_npu.npu_moe_token_unpermute(permuted_tokens=computed, sorted_indices=rows, probs=shares.npu())
    here = [(token, place, int(expert) - first) for (token, place), expert in _each(EXPERTS) if first <= expert < last]
    wanted = torch.zeros(3, 5)
    for token, place, expert in here:
        wanted[token] += shares[token, place] * (x[token] @ weights[expert])
    agree(got, wanted)
    assert counts.cpu().sum() == len(here)


def _each(table: torch.Tensor) -> list[tuple[tuple[int, int], torch.Tensor]]:
    return [((row, column), table[row, column]) for row in range(len(table)) for column in range(table.shape[1])]


def test_the_best_experts_by_softmax() -> None:
    logits = torch.randn(3, 8)
    weights, chosen, _ = torch_npu.npu_moe_gating_top_k(logits.npu(), k=2, renorm=1, norm_type=0)
    best = logits.softmax(-1).topk(2)
    agree(chosen, best.indices.int())
    agree(weights, best.values / best.values.sum(-1, keepdim=True))


def test_the_best_experts_by_sigmoid_of_the_best_group() -> None:
    scores, bias = torch.tensor([[0.9, 0.1, 0.2, 0.6, 0.5, 0.3]]), torch.tensor([0.0, 0, 0, 0, 0, 0.4])
    weights, chosen, _ = torch_npu.npu_moe_gating_top_k(
        scores.logit().npu(),
        k=2,
        bias=bias.npu(),
        k_group=1,
        group_count=2,
        group_select_mode=1,
        norm_type=1,
        routed_scaling_factor=2.0,
    )
    assert chosen.tolist() == [[5, 3]]
    agree(weights, torch.tensor([[2 / 3, 4 / 3]]))


LATENT, ROPE = 512, 64


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Pairs of neighbours, rotated, as two halves."""
    first, second = x[..., ::2], x[..., 1::2]
    return torch.cat([first, second], -1) * cos + torch.cat([-second, first], -1) * sin


def test_rotary_embedding_of_neighbours() -> None:
    x, angle = torch.randn(2, 3, 1, ROPE), torch.randn(2, 1, 1, ROPE)
    got = torch_npu.npu_interleave_rope(x.npu(), angle.cos().npu(), angle.sin().npu())
    agree(got, rotated(x, angle.cos(), angle.sin()))


def test_the_latent_of_a_token_goes_to_its_slot() -> None:
    kv, weight, angle = torch.randn(2, 1, 1, LATENT + ROPE), torch.rand(LATENT), torch.randn(2, 1, 1, ROPE)
    ropes, latents = (torch.zeros(BLOCKS, BLOCK, 1, size).npu() for size in (ROPE, LATENT))
    slots = torch.tensor([5, -1]).npu()
    _, _, rope, latent = torch_npu.npu_kv_rmsnorm_rope_cache(
        *(x.npu() for x in (kv, weight, angle.cos(), angle.sin())),
        *(slots, ropes, latents),
        epsilon=1e-6,
        cache_mode="PA",
        is_output_kv=True,
    )
    agree(latent, torch.nn.functional.rms_norm(kv[..., :LATENT], (LATENT,), weight, 1e-6))
    agree(rope, rotated(kv[..., LATENT:], angle.cos(), angle.sin()))
    for cache, tokens in ((ropes, rope), (latents, latent)):
        expected = torch.zeros(BLOCKS * BLOCK, tokens.shape[-1])
        expected[5] = tokens.cpu()[0, 0, 0]
        agree(cache.flatten(0, 2), expected)


def test_attention_with_ropes_apart() -> None:
    def packed(size: int) -> torch.Tensor:
        return torch.randn(5, HEADS, size)

    query, key, value, query_rope, key_rope = (packed(size) for size in (HEAD, HEAD, HEAD, ROPE, ROPE))
    got, lse = torch_npu.npu_fused_infer_attention_score(
        *(x.npu() for x in (query, key, value)),
        query_rope=query_rope.npu(),
        key_rope=key_rope.npu(),
        atten_mask=torch.ones(2048, 2048, dtype=torch.int8).triu(1).npu(),
        input_layout="TND",
        num_heads=HEADS,
        num_key_value_heads=HEADS,
        scale=0.1,
        sparse_mode=3,
        softmax_lse_flag=True,
        actual_seq_lengths=[5],
        actual_seq_lengths_kv=[5],
    )
    scores = torch.einsum("qnd,knd->nqk", torch.cat([query, query_rope], -1), torch.cat([key, key_rope], -1)) * 0.1
    scores.masked_fill_(torch.ones(5, 5, dtype=torch.bool).triu(1), -torch.inf)
    agree(got, torch.einsum("nqk,knd->qnd", scores.softmax(-1), value))
    agree(lse, scores.logsumexp(-1).t().unsqueeze(-1))


@pytest.mark.parametrize("layout", ["BNSD_NBSD", "TND_NTD"])
def test_attention_over_latents(layout: str) -> None:
    query, rope = torch.randn(2, HEADS, LATENT), torch.randn(2, HEADS, ROPE)
    latents, ropes = (torch.randn(BLOCKS, 1, BLOCK, size) for size in (LATENT, ROPE))
    table, lengths = torch.tensor([[3, 1], [5, 0]], dtype=torch.int32), [7, 2]
    is_packed = layout.startswith("TND")
    got, _ = torch_npu.npu_fused_infer_attention_score_v2(
        (query if is_packed else query.unsqueeze(2)).npu(),
        *(latents.npu(), latents.npu()),
        query_rope=(rope if is_packed else rope.unsqueeze(2)).npu(),
        key_rope=ropes.npu(),
        num_query_heads=HEADS,
        num_key_value_heads=1,
        input_layout=layout,
        atten_mask=torch.ones(2048, 2048, dtype=torch.int8).triu(1).npu() if is_packed else None,
        sparse_mode=3 if is_packed else 0,
        softmax_scale=0.1,
        block_table=table.npu(),
        block_size=BLOCK,
        actual_seq_qlen=[1, 2] if is_packed else None,
        actual_seq_kvlen=lengths,
    )
    for request, length in enumerate(lengths):
        keys = torch.cat([latents, ropes], -1)[table[request].long()].flatten(0, 2)[:length]
        scores = torch.cat([query, rope], -1)[request] @ keys.t() * 0.1
        agree(got.flatten(1, -2)[:, request], scores.softmax(-1) @ keys[:, :LATENT])


def test_product_of_batches_with_the_batch_in_the_middle() -> None:
    x, weight = torch.randn(2, 3, 4), torch.randn(2, 4, 5)
    got = torch_npu.npu_transpose_batchmatmul(x.npu(), weight.npu(), perm_y=(1, 0, 2))
    agree(got, torch.bmm(x, weight).transpose(0, 1))


def test_every_operator_of_the_table_was_launched() -> None:
    table = {name for name, _, _ in operators(OPERATORS.read_text(encoding="utf-8"))}
    assert table - control.launched() == set()
