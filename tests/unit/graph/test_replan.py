"""Replanning: worth it or not, and one new graph at a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ascend_serve.graph.replan import better_sizes, one_at_a_time
from ascend_serve.graph.sizes import padding_waste

ALL = tuple(range(1, 17))
SIZES = st.sets(st.integers(1, 32), min_size=1, max_size=8).map(lambda sizes: tuple(sorted(sizes)))


def test_sizes_follow_the_load() -> None:
    assert better_sizes((1, 2, 4, 8, 16), ALL, {3: 500, 5: 500, 16: 10}, saving=0.1) == (3, 5, 16)


def test_a_small_saving_is_not_worth_a_capture() -> None:
    weights = {4: 1000, 5: 10}
    waste = padding_waste((1, 2, 4, 8, 16), weights)
    assert better_sizes((1, 2, 4, 8, 16), ALL, weights, saving=waste + 0.001) is None


def test_nothing_is_captured_where_nothing_was() -> None:
    assert better_sizes((), ALL, {3: 1}, saving=0.0) is None


def test_the_largest_size_stays_the_largest() -> None:
    assert better_sizes((1, 8), ALL, {3: 1, 12: 5}, saving=0.0) == (3, 8)


@given(SIZES, SIZES)
def test_each_step_captures_at_most_one_size_and_holds_no_more_than_either_end(
    current: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
    held = set(current)
    for step in one_at_a_time(current, wanted):
        assert len(set(step) - held) <= 1
        assert len(step) <= max(len(current), len(wanted))
        held = set(step)
    assert held == set(wanted)
