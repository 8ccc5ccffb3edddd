"""LoRA on the emulated NPU: each row gets what its own adapter makes of it, in a graph as well."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ascend_serve.emulated.lora import EmulatedNPUPunicaWrapper, product
from ascend_serve.emulated.npu_graph import NPUGraph, graph

TOKENS, INPUTS, OUTPUTS, RANK, ADAPTERS = 6, 5, 4, 2, 2
IDS: list[int | None] = [7, 9]


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


A, B = random(ADAPTERS, 1, RANK, INPUTS), random(ADAPTERS, 1, OUTPUTS, RANK)
X = random(TOKENS, INPUTS)


def wrapper(tokens: list[int], requests: list[int] | None = None) -> EmulatedNPUPunicaWrapper:
    """A wrapper after a step with these adapters of its tokens and of its requests, by id; 0 for none."""
    made = EmulatedNPUPunicaWrapper(16, 16, "cpu")
    update(made, tokens, requests)
    return made


def update(made: EmulatedNPUPunicaWrapper, tokens: list[int], requests: list[int] | None = None) -> None:
    mapping = SimpleNamespace(index_mapping=tokens, prompt_mapping=requests or tokens, is_prefill=True)
    made.update_metadata(mapping, IDS, ADAPTERS, 100)


def added(made: EmulatedNPUPunicaWrapper) -> torch.Tensor:
    y = torch.zeros(TOKENS, OUTPUTS)
    made.add_lora_linear(y, X, (A,), (B,), 2.0, (OUTPUTS,))
    return y


def expected(tokens: list[int]) -> torch.Tensor:
    rows = [
        2.0 * B[IDS.index(adapter), 0] @ (A[IDS.index(adapter), 0] @ row) if adapter else torch.zeros(OUTPUTS)
        for row, adapter in zip(X, tokens, strict=True)
    ]
    return torch.stack(rows)


@pytest.mark.parametrize(
    "tokens",
    [
        pytest.param([7] * TOKENS, id="one adapter"),
        pytest.param([7, 7, 9, 9, 9, 7], id="two adapters"),
        pytest.param([0, 7, 0, 9, 0, 0], id="tokens without an adapter among them"),
        pytest.param([0] * TOKENS, id="none"),
    ],
)
def test_each_token_gets_its_own_adapter(tokens: list[int]) -> None:
    torch.testing.assert_close(added(wrapper(tokens)), expected(tokens))


def test_rows_that_pad_a_batch_have_no_adapter() -> None:
    made = wrapper([9] * TOKENS)
    update(made, [7, 7])
    torch.testing.assert_close(added(made), expected([7, 7, 0, 0, 0, 0]))


def test_a_graph_replays_the_adapters_of_its_own_step() -> None:
    made = wrapper([7] * TOKENS)
    npu_graph = NPUGraph()
    with graph(npu_graph):
        y = added(made)
    for tokens in ([9, 9, 9, 0, 0, 7], [0, 0, 0, 0, 7, 7]):
        update(made, tokens)
        npu_graph.replay()
        torch.testing.assert_close(y, expected(tokens))


@pytest.mark.parametrize(
    ("requests", "of_prompt"),
    [
        pytest.param([9], [9] * TOKENS, id="one request"),
        pytest.param([9, 9], [9] * TOKENS, id="requests with the same adapter"),
        pytest.param([9, 7], [0] * TOKENS, id="it is not known which request's"),
    ],
)
def test_logits_of_a_prompt_do_not_end_the_engine(requests: list[int], of_prompt: list[int]) -> None:
    y = torch.zeros(TOKENS, OUTPUTS)
    wrapper([0] * TOKENS, requests).add_lora_logits(y, X, A, B, 2.0)
    torch.testing.assert_close(y, expected(of_prompt))


def test_logits_of_requests_get_their_adapters() -> None:
    requests = [9, 0, 7, 7, 0, 9]
    y: Any = torch.zeros(TOKENS, OUTPUTS)
    wrapper([0] * TOKENS, requests).add_lora_logits(y, X, A, B, 2.0)
    torch.testing.assert_close(y, expected(requests))


def test_weights_of_few_bits_are_multiplied_in_float32() -> None:
    indices = torch.zeros(TOKENS, dtype=torch.long)
    assert product(X.bfloat16(), A.bfloat16(), indices).dtype is torch.float32
