from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ascend_serve.graph.sizes import (
    candidate_sizes,
    eager_share,
    padded_size,
    padding_waste,
    prior_weights,
    select_sizes,
)


@pytest.mark.parametrize(
    ("max_num_seqs", "options", "expected"),
    [
        pytest.param(4, {}, (1, 2, 3, 4), id="every size"),
        pytest.param(4, {"decode_query_len": 3}, (3, 6, 9, 12), id="speculative decoding"),
        pytest.param(10, {"multiple_of": 4}, (4, 8), id="sequence parallel, top not reachable"),
        pytest.param(16, {"decode_query_len": 2, "multiple_of": 8}, (8, 16, 24, 32), id="both"),
        pytest.param(300, {"decode_query_len": 3, "multiple_of": 128}, (384,), id="capped at 512"),
        pytest.param(2, {"multiple_of": 4}, (), id="nothing fits"),
        pytest.param(8, {"maximum": 3}, (1, 2, 3), id="explicit maximum"),
    ],
)
def test_candidates_are_all_reachable_multiples(
    max_num_seqs: int, options: dict[str, int], expected: tuple[int, ...]
) -> None:
    assert candidate_sizes(max_num_seqs, **options) == expected


@pytest.mark.parametrize(
    ("max_graphs", "weights", "expected"),
    [
        pytest.param(0, {1: 1}, (), id="no graph"),
        pytest.param(-1, {1: 1}, (), id="less than none"),
        pytest.param(1, {1: 1}, (8,), id="one graph is the top"),
        pytest.param(2, {1: 10, 8: 1}, (1, 8), id="the size in use and the top"),
        pytest.param(8, {3: 1}, (3, 8), id="no more graphs than needed"),
        pytest.param(3, {2: 5, 5: 5, 6: 1}, (2, 5, 8), id="the rare size is padded"),
        pytest.param(2, {100: 1}, (3, 8), id="a load above the top says nothing: the prior holds"),
    ],
)
def test_chosen_sizes(max_graphs: int, weights: dict[int, int], expected: tuple[int, ...]) -> None:
    assert select_sizes(range(1, 9), max_graphs, weights) == expected


def test_order_and_repetition_of_candidates_do_not_matter() -> None:
    assert select_sizes([8, 1, 4, 4, 2], 2, {1: 1}) == (1, 8)


def padded_tokens(sizes: Sequence[int], weights: dict[int, int]) -> int:
    return sum(weight * next(size for size in sorted(sizes) if size >= n) for n, weight in weights.items())


candidate_lists = st.lists(st.integers(1, 40), min_size=1, max_size=9, unique=True).map(sorted)


@settings(deadline=None)
@given(candidates=candidate_lists, max_graphs=st.integers(1, 9), data=st.data())
def test_optimum_equals_brute_force(candidates: list[int], max_graphs: int, data: st.DataObject) -> None:
    weights = data.draw(st.dictionaries(st.integers(1, candidates[-1]), st.integers(1, 1000), min_size=1, max_size=12))
    chosen = select_sizes(candidates, max_graphs, weights)
    others = combinations(candidates[:-1], min(max_graphs, len(candidates)) - 1)
    assert set(chosen) <= set(candidates)
    assert chosen[-1] == candidates[-1]
    assert len(chosen) <= max_graphs
    assert padded_tokens(chosen, weights) == min(padded_tokens([*other, candidates[-1]], weights) for other in others)


@settings(deadline=None)
@given(top=st.integers(1, 512), max_graphs=st.integers(1, 64))
def test_without_a_load_never_worse_than_an_even_spread(top: int, max_graphs: int) -> None:
    candidates = candidate_sizes(top)
    even = sorted({-(-top * k // max_graphs) for k in range(1, max_graphs + 1)})
    prior = prior_weights(candidates)
    chosen = select_sizes(candidates, max_graphs)
    assert padding_waste(chosen, prior) <= padding_waste(even, prior) + 1e-12


@pytest.mark.parametrize(
    ("num_tokens", "expected"),
    [pytest.param(1, 2, id="padded"), pytest.param(4, 4, id="exact"), pytest.param(5, None, id="eager")],
)
def test_padded_size(num_tokens: int, expected: int | None) -> None:
    assert padded_size((2, 4), num_tokens) == expected


def test_waste_counts_only_steps_that_replay_a_graph() -> None:
    weights = {1: 2.0, 4: 1.0, 100: 1.0}
    assert padding_waste((2, 4), weights) == pytest.approx((2 * 1 + 0) / (2 * 1 + 4))
    assert eager_share((2, 4), weights) == 0.25


def test_waste_of_nothing_is_nothing() -> None:
    assert padding_waste((2, 4), {}) == 0.0
    assert eager_share((2, 4), {}) == 0.0


def test_prior_is_a_distribution() -> None:
    assert sum(prior_weights(candidate_sizes(512)).values()) == pytest.approx(1)
