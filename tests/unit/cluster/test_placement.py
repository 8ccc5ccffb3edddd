from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_serve.cluster.placement import NodeOffer, offers, placement_bundles
from ascend_serve.config.schema import ParallelConfig
from ascend_serve.errors import ClusterError


def nodes(*npus: int) -> list[NodeOffer]:
    return [NodeOffer(node_id=chr(ord("a") + i), address=f"10.0.0.{i + 1}", npus=count) for i, count in enumerate(npus)]


def parallel(tp: int, pp: int = 1, dp: int = 1) -> ParallelConfig:
    return ParallelConfig(tensor_parallel_size=tp, pipeline_parallel_size=pp, data_parallel_size=dp)


@pytest.mark.parametrize(
    ("sizes", "npus", "layout", "strategy"),
    [
        pytest.param((1, 1, 1), (1,), "a", "STRICT_PACK", id="one rank"),
        pytest.param((4, 1, 1), (8,), "aaaa", "STRICT_PACK", id="a group on part of a node"),
        pytest.param((2, 2, 1), (8,), "aaaa", "STRICT_PACK", id="two stages on one node"),
        pytest.param((2, 2, 1), (2, 2), "aabb", "PACK", id="a stage per node"),
        pytest.param((2, 1, 2), (2, 2), "aabb", "PACK", id="a data-parallel engine per node"),
        pytest.param((2, 2, 1), (1, 2, 4), "cccc", "STRICT_PACK", id="the node that holds most groups first"),
        pytest.param((8, 2, 1), (8, 8, 8), "aaaaaaaabbbbbbbb", "PACK", id="as few nodes as possible"),
        pytest.param((4, 1, 1), (2, 2), "aabb", "PACK", id="a group larger than a node takes whole nodes"),
    ],
)
def test_lays_out_ranks(sizes: tuple[int, int, int], npus: tuple[int, ...], layout: str, strategy: str) -> None:
    placement = placement_bundles(parallel(*sizes), nodes(*npus))
    assert "".join(placement.nodes) == layout
    assert placement.strategy == strategy
    assert [bundle["NPU"] for bundle in placement.bundles] == [1] * len(layout)


@pytest.mark.parametrize(
    ("sizes", "npus", "tied"),
    [
        pytest.param((2, 2, 1), (2, 2), False, id="groups fill their nodes"),
        pytest.param((2, 4, 1), (4, 4), False, id="two groups fill a node"),
        pytest.param((2, 2, 1), (3, 3), True, id="PACK would put three ranks on a node"),
        pytest.param((4, 1, 1), (2, 2, 1), True, id="PACK could use the odd node"),
        pytest.param((2, 1, 1), (3, 3), False, id="one node is enough"),
    ],
)
def test_ties_bundles_to_nodes_only_where_packing_would_tear_a_group(
    sizes: tuple[int, int, int], npus: tuple[int, ...], tied: bool
) -> None:
    placement = placement_bundles(parallel(*sizes), nodes(*npus))
    assert all((len(bundle) == 2) is tied for bundle in placement.bundles)
    assert any("tied" in note for note in placement.notes) is tied


def test_a_tied_bundle_asks_for_the_address_of_its_node() -> None:
    placement = placement_bundles(parallel(2, 2), nodes(3, 3))
    assert [list(bundle)[1] for bundle in placement.bundles] == ["node:10.0.0.1"] * 2 + ["node:10.0.0.2"] * 2


def test_says_that_a_group_spans_nodes() -> None:
    assert "spans nodes" in placement_bundles(parallel(4), nodes(2, 2)).notes[0]


@pytest.mark.parametrize(
    ("sizes", "offered", "words"),
    [
        pytest.param(
            (4, 2, 1),
            nodes(4, 2),
            ["needs 8", "4 x", "offers 6", "10.0.0.1: 4 NPU", "10.0.0.2: 2 NPU"],
            id="arithmetic",
        ),
        pytest.param((2, 2, 1), nodes(3, 1), ["offers 4", "each group of 2 on one node"], id="enough NPUs, torn apart"),
        pytest.param((8, 1, 1), nodes(3, 3, 3), ["needs 8", "at most 3"], id="group that fills no whole nodes"),
        pytest.param((1, 1, 1), [], ["offers 0 (no node)", "worker.sh"], id="no node"),
        pytest.param(
            (8, 1, 1),
            [NodeOffer("a", "10.0.0.1", npus=0, gpus=8)],
            ["10.0.0.1: 0 NPU but 8 GPU", "--resources '{\"NPU\": 8}' instead of --num-gpus"],
            id="GPU advertised instead of NPU",
        ),
    ],
)
def test_refuses_with_the_arithmetic(sizes: tuple[int, int, int], offered: list[NodeOffer], words: list[str]) -> None:
    with pytest.raises(ClusterError) as refused:
        placement_bundles(parallel(*sizes), offered)
    assert all(word in str(refused.value) for word in words)
    assert refused.value.remedy


@given(tp=st.integers(1, 8), pp=st.integers(1, 3), dp=st.integers(1, 3), npus=st.lists(st.integers(0, 16), max_size=6))
def test_never_takes_more_than_a_node_offers_and_keeps_groups_together(
    tp: int, pp: int, dp: int, npus: list[int]
) -> None:
    offered = nodes(*npus)
    try:
        layout = placement_bundles(parallel(tp, pp, dp), offered).nodes
    except ClusterError:
        assert sum(count // tp for count in npus) < pp * dp
        return
    assert len(layout) == tp * pp * dp
    assert all(layout.count(node.node_id) <= node.npus for node in offered)
    if tp <= max(npus):
        assert all(len(set(layout[start : start + tp])) == 1 for start in range(0, len(layout), tp))


def test_reads_what_living_nodes_offer() -> None:
    ray_nodes = [
        {"Alive": True, "NodeID": "a", "NodeManagerAddress": "10.0.0.1", "Resources": {"NPU": 8.0, "CPU": 64.0}},
        {"Alive": True, "NodeID": "b", "NodeManagerAddress": "10.0.0.2", "Resources": {"GPU": 8.0}},
        {"Alive": False, "NodeID": "c", "NodeManagerAddress": "10.0.0.3", "Resources": {}},
    ]
    assert offers(ray_nodes) == [NodeOffer("a", "10.0.0.1", 8), NodeOffer("b", "10.0.0.2", 0, gpus=8)]
