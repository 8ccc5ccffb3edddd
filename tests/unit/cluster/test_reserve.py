"""On which nodes processes wait for ranks that lose theirs."""

from __future__ import annotations

import pytest

from ascend_serve.cluster.placement import NodeOffer
from ascend_serve.cluster.reserve import Reserve, reserves


def node(name: str, npus: int) -> NodeOffer:
    return NodeOffer(name, f"address-of-{name}", npus)


CLUSTER = [node("a", 2), node("b", 2), node("small", 1), node("large", 8), node("head", 0)]


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        pytest.param("aabb", [Reserve("large", 0), Reserve("large", 1)], id="as-many-as-one-node-has"),
        pytest.param("ab", [Reserve("small", 0), Reserve("large", 0)], id="one-on-each-node"),
        pytest.param("aa", [], id="ranks-on-one-node-are-lost-with-their-replica"),
        pytest.param("", [], id="no-ranks"),
    ],
)
def test_processes_wait_where_the_ranks_of_a_node_could_go(ranks: str, expected: list[Reserve]) -> None:
    assert reserves(ranks, CLUSTER) == expected


def test_not_more_wait_than_nodes_are_lost_at_once() -> None:
    assert reserves("ab", [node(name, 1) for name in "abcdef"]) == [Reserve("c", 0), Reserve("d", 0)]


def test_nobody_waits_where_ranks_are_already() -> None:
    assert reserves("ab", CLUSTER[:2]) == []
