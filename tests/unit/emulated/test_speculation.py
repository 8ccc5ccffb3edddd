"""What speculative decoding needs of vLLM's CPU build."""

from __future__ import annotations

import pytest
import torch
from vllm.v1.sample import rejection_sampler

from ascend_serve.emulated.speculation import expand, sample_without_drafts


@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.int64], ids=str)
def test_each_token_gets_the_value_of_its_request(dtype: torch.dtype) -> None:
    output = torch.full((5,), -9, dtype=dtype)
    expand(output, torch.tensor([4, 7, 0], dtype=dtype), torch.tensor([2, 2, 5], dtype=torch.int32), 0, 1)
    assert output.tolist() == [4, 4, 1, 1, 1]


def test_temperatures_keep_their_fraction() -> None:
    output = torch.empty(3)
    expand(output, torch.tensor([0.5, 0.8]), torch.tensor([1, 3]), 0, 1)
    torch.testing.assert_close(output, torch.tensor([0.5, 0.8, 0.8]))


def test_a_step_without_drafts_is_sampled_with_a_top_k(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejection_sampler, "apply_top_k_top_p", rejection_sampler.apply_top_k_top_p)
    nothing, no_top_k = torch.empty(0, 10), torch.empty(0, dtype=torch.int32)
    with pytest.raises(RuntimeError, match="numel"):
        rejection_sampler.apply_top_k_top_p(nothing, no_top_k, None)
    sample_without_drafts()
    assert rejection_sampler.apply_top_k_top_p(nothing, no_top_k, None).shape == (0, 10)
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    kept = rejection_sampler.apply_top_k_top_p(logits, torch.tensor([2], dtype=torch.int32), None)
    assert kept.isinf().tolist() == [[True, False, False]]
