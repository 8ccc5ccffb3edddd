"""Which ranks of a replacement have no process that waits for them."""

from __future__ import annotations

import pytest

from ascend_serve.cluster.reserve import Reserve
from ascend_serve.replica.spares import Place, missing

MOVED = {0: "a", 1: "c", 2: "c"}
"""Bundles 1 and 2 came to a node on which none was before."""


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        pytest.param([], [0, 1, 2], id="none"),
        pytest.param([0, 1, 2], [], id="one-in-each-bundle"),
        pytest.param([0], [1, 2], id="those-of-the-lost-node-are-gone"),
        pytest.param([0, Reserve("c", 0)], [2], id="one-beside-them-for-one-of-two"),
        pytest.param([0, Reserve("c", 0), Reserve("c", 1)], [], id="one-beside-them-for-each"),
        pytest.param([0, Reserve("d", 0), Reserve("d", 1)], [1, 2], id="on-another-node"),
        pytest.param([Reserve("c", 0), Reserve("c", 1)], [0], id="none-where-a-rank-stayed"),
    ],
)
def test_one_is_begun_for_each_rank_that_has_none_in_its_bundle_or_on_its_node(
    here: list[Place], expected: list[int]
) -> None:
    assert missing(MOVED, here) == expected
