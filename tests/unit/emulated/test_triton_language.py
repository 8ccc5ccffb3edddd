"""vLLM's kernels for Model Runner V2 do on the host what vLLM says of them: against torch, and against plain Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from vllm.triton_utils import tl, tldevice, triton
from vllm.v1.worker.cpu.buffer_utils import UvaBuffer
from vllm.v1.worker.gpu import block_table, buffer_utils, input_batch
from vllm.v1.worker.gpu.block_table import BlockTables
from vllm.v1.worker.gpu.buffer_utils import StagedWriteTensor
from vllm.v1.worker.gpu.sample import gumbel, logprob, min_p, penalties

from ascend_serve.emulated import triton_language
from ascend_serve.emulated.triton_language import Kernel, Pointer
from tests.triton_names import missing

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def language(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The language where other tests may have imported vLLM's kernels without it."""
    before = dict(vars(triton)), dict(vars(tl)), dict(vars(tldevice))
    triton_language.install()
    # As vLLM's worker for a CPU does, which need not have been imported.
    monkeypatch.setattr(buffer_utils, "UvaBuffer", UvaBuffer)
    for module in (block_table, buffer_utils, input_batch, gumbel, logprob, min_p, penalties):
        for name in kernels(module):
            monkeypatch.setattr(module, name, Kernel(getattr(module, name)))
    yield
    for owner, names in zip((triton, tl, tldevice), before, strict=True):
        vars(owner).clear()
        vars(owner).update(names)


def kernels(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if name.endswith("_kernel") and not isinstance(value, Kernel)]


def states(**numbers: list[int]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(values, dtype=torch.int32) for name, values in numbers.items()}


def test_staged_writes_go_to_their_rows() -> None:
    table = StagedWriteTensor((3, 5), torch.int32, CPU)
    table.stage_write(2, 1, [7, 8, 9])
    table.stage_write_elem(0, 4)
    table.apply_write()
    assert table.gpu.tolist() == [[4, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 7, 8, 9, 0]]


@pytest.fixture
def tables() -> BlockTables:
    made = BlockTables([4, 8], 4, 16, [3, 2], CPU)
    made.append_block_ids(1, ([5, 6, 7], [2, 3]), overwrite=True)
    made.append_block_ids(3, ([9], [4]), overwrite=True)
    made.apply_staged_writes()
    return made


def test_block_tables_are_gathered_by_batch_and_padded_rows_are_zero(tables: BlockTables) -> None:
    for table in tables.input_block_tables:
        table.fill_(99)
    first, second = tables.gather_block_tables(torch.tensor([3, 1]), num_reqs_padded=3)
    assert [first[0, 0].item(), first[1].tolist(), first[2].tolist()] == [9, [5, 6, 7], [0, 0, 0]]
    assert [second[0, 0].item(), second[1].tolist(), second[2].tolist()] == [4, [2, 3], [0, 0]]


def test_slots_follow_positions_and_what_is_padded_has_none(tables: BlockTables) -> None:
    positions = torch.tensor([3, 0, 4, 9, 0], dtype=torch.int64)
    starts = torch.tensor([0, 1, 4], dtype=torch.int32)
    slots = tables.compute_slot_mappings(torch.tensor([3, 1]), starts, positions, num_tokens_padded=5)
    assert slots.tolist() == [[9 * 4 + 3, 5 * 4, 6 * 4, 7 * 4 + 1, -1], [4 * 8 + 3, 2 * 8, 2 * 8 + 4, 3 * 8 + 1, -1]]


def test_a_prompt_gets_its_next_tokens_and_what_is_seen_ahead() -> None:
    given = states(input_ids=[0] * 6, prefill_len=[5, 2], computed=[1, 2], starts=[0, 3, 4])
    ahead, tokens = torch.zeros(2, 2, dtype=torch.int32), torch.arange(20, dtype=torch.int32).view(2, 10)
    input_batch.prepare_prefill_inputs(
        given["input_ids"],
        ahead,
        torch.tensor([0, 1]),
        given["starts"],
        tokens,
        given["prefill_len"],
        given["computed"],
    )
    assert given["input_ids"].tolist() == [1, 2, 3, 0, 0, 0]
    assert ahead[:, 0].tolist() == [4, 0]


def test_positions_go_on_and_lengths_of_padded_requests_are_zero() -> None:
    given = states(starts=[0, 3, 4], computed=[1, 6], lengths=[9] * 4)
    positions = torch.zeros(4, dtype=torch.int64)
    input_batch.prepare_pos_seq_lens(
        torch.tensor([0, 1]), given["starts"], given["computed"], positions, given["lengths"]
    )
    assert positions.tolist() == [1, 2, 3, 6]
    assert given["lengths"].tolist() == [4, 7, 0, 0]


def test_the_last_token_is_put_in_where_a_request_decodes() -> None:
    given = states(input_ids=[0] * 4, starts=[0, 3, 4], lengths=[3, 8], prefill_len=[5, 2], cu=[0, 1, 2])
    sampled, drafts = torch.tensor([[11], [22]]), torch.zeros(2, 1, dtype=torch.int64)
    logits = input_batch.combine_sampled_and_draft_tokens(
        given["input_ids"],
        torch.tensor([0, 1]),
        sampled,
        given["starts"],
        given["lengths"],
        given["prefill_len"],
        drafts,
        given["cu"],
        2,
    )
    assert given["input_ids"].tolist() == [0, 0, 0, 22]
    assert logits.tolist() == [2, 3]


def test_what_was_sampled_is_remembered() -> None:
    given = states(computed=[1, 6], sampled=[0, 1], rejected=[0, 0], starts=[0, 3, 4], total=[5, 7])
    last, counts = torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, 30, dtype=torch.int32)
    tokens = torch.zeros(2, 10, dtype=torch.int32)
    input_batch.post_update(
        torch.tensor([0, 1]),
        given["computed"],
        last,
        counts,
        torch.tensor([[3], [22]]),
        given["sampled"],
        given["rejected"],
        given["starts"],
        tokens,
        given["total"],
    )
    assert given["computed"].tolist() == [4, 7]
    assert given["total"].tolist() == [5, 8]
    assert (last.flatten().tolist(), tokens[1, 7].item(), counts[1, 22].item()) == ([0, 22], 22, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_greedy_requests_get_the_largest_logit(dtype: torch.dtype) -> None:
    logits = torch.randn(3, 2500, generator=torch.Generator().manual_seed(1)).to(dtype)
    sampled = sample(logits, temperature=0.0)
    assert sampled.tolist() == logits.float().argmax(-1).tolist()


def sample(logits: torch.Tensor, temperature: float, seed: int = 7) -> torch.Tensor:
    rows = logits.shape[0]
    one = torch.zeros(rows, dtype=torch.int64)
    temperatures, seeds = torch.tensor([temperature]), torch.tensor([seed])
    return gumbel.gumbel_sample(logits, one, temperatures, seeds, torch.arange(rows), True, False)


def test_a_sampled_token_has_its_probability_and_a_seed_repeats() -> None:
    probabilities = (0.5, 0.3, 0.2)
    logits = torch.log(torch.tensor([probabilities])).repeat(3000, 1)
    sampled = sample(logits, 1.0)
    share = Counter(sampled.tolist())
    # Five standard deviations of a share of 3,000 draws; the seed is fixed.
    assert all(abs(share[token] / 3000 - wanted) < 0.046 for token, wanted in enumerate(probabilities))
    assert torch.equal(sampled, sample(logits, 1.0))
    assert not torch.equal(sampled, sample(logits, 1.0, seed=8))


def test_logprobs_and_ranks_are_those_of_torch() -> None:
    logits = torch.randn(4, 300, generator=torch.Generator().manual_seed(2))
    sampled = logits.argsort(-1, descending=True)[:, 5].contiguous()
    scores = logprob.compute_topk_scores(logits, 3, sampled)
    wanted = logits.log_softmax(-1)
    torch.testing.assert_close(scores.logprobs, wanted.gather(1, scores.logprob_token_ids.long()))
    assert scores.logprob_token_ids[:, 1:].tolist() == logits.topk(3).indices.tolist()
    assert scores.selected_token_ranks.tolist() == [6] * 4


def test_temperature_and_min_p_change_logits_in_place() -> None:
    logits = torch.tensor([[2.0, 1.0, -9.0], [2.0, 1.0, -9.0]])
    rows = torch.tensor([0, 1])
    gumbel.apply_temperature(logits, rows, torch.tensor([2.0, 0.0]))
    assert logits.tolist() == [[1.0, 0.5, -4.5], [2.0, 1.0, -9.0]]
    min_p.apply_min_p(logits, rows, torch.tensor([0.1, 0.0]))
    assert logits.tolist() == [[1.0, 0.5, float("-inf")], [2.0, 1.0, -9.0]]


@pytest.mark.parametrize(
    ("change", "after"),
    [
        pytest.param(triton_language.atomic_add, [0, 2, 0, 13], id="add"),
        pytest.param(triton_language.atomic_or, [0, 1, 0, 7], id="or"),
    ],
)
def test_memory_is_changed_by_its_address(change: Any, after: list[int]) -> None:
    counts = torch.tensor([0, 0, 0, 5], dtype=torch.int32)
    for pointer in (Pointer.of(counts), Pointer.at(counts.data_ptr(), np.dtype(np.int32))):
        counts.copy_(torch.tensor([0, 0, 0, 5]))
        change(pointer + np.array([1, 3, 1, 3, 9]), np.array([1, 2, 1, 6, 1]), np.array([True] * 4 + [False]))
        assert counts.tolist() == after


def test_nothing_is_changed_where_the_mask_is_off() -> None:
    counts = torch.zeros(2, dtype=torch.int32)
    triton_language.atomic_add(Pointer.of(counts) + np.arange(2), np.ones(2), np.zeros(2, dtype=bool))
    assert counts.tolist() == [0, 0]


def test_kernels_of_the_runner_ask_for_nothing_that_is_not_there() -> None:
    assert list(missing([Path(gumbel.__file__).parents[1]])) == []


def test_another_logarithm_is_missing_by_name(tmp_path: Path) -> None:
    (tmp_path / "kernels.py").write_text("tl.log(x); tldevice.log1p(x); tl.log7(x); a.tl.log8(x); tldevice.log(x)")
    assert list(missing([tmp_path])) == ["kernels.py: tl.log7", "kernels.py: tldevice.log"]


def test_what_the_language_lacks_is_missing_by_name() -> None:
    @triton.jit
    def kernel() -> None:
        tl.dot(1, 1)

    with pytest.raises(AttributeError, match="dot"):
        kernel[(1,)]()


@pytest.mark.parametrize("value", [1, 2, 3, 1000], ids=str)
def test_the_next_power_of_two(value: Any) -> None:
    assert triton.next_power_of_2(value) == {1: 1, 2: 2, 3: 4, 1000: 1024}[value]
