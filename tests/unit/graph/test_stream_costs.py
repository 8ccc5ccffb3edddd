from typing import Any

import pytest

from ascend_serve.graph.modes import GraphMode
from ascend_serve.graph.stream_costs import (
    ExpansionMode,
    StreamLayout,
    prior_budget,
    streams_per_full,
    streams_per_piecewise,
    streams_per_size,
)

AIV = ExpansionMode.AIV


@pytest.mark.parametrize(
    ("layout", "streams", "expected"),
    [
        pytest.param({"num_layers": 48, "expansion_mode": AIV, "moe": True}, 1920, 19, id="AIV: 1920 / 49 / 2"),
        pytest.param({"num_layers": 48}, 1920, 12, id="FFTS+: (1920 - 40) / 49 / 3"),
        pytest.param({"num_layers": 64, "expansion_mode": AIV}, 1800, 12, id="AIV, dense: (1800 - 130) / 130"),
        pytest.param({"num_layers": 64}, 1800, 9, id="FFTS+: (1800 - 40) / 65 / 3"),
        pytest.param({"num_layers": 64, "prefill_context_parallel_size": 2}, 1800, 8, id="FFTS+, prefill CP: 1660"),
        pytest.param(
            {"num_layers": 61, "data_parallel_size": 4, "moe": True, "expert_parallel": True, "expansion_mode": AIV},
            1800,
            5,
            id="AIV, DP x EP: 1800 / 62 / 5",
        ),
    ],
)
def test_piecewise_sizes_that_fit(layout: dict[str, Any], streams: int, expected: int) -> None:
    laid_out = StreamLayout(**{"tensor_parallel_size": 4} | layout)
    assert prior_budget(laid_out, streams) // streams_per_size(laid_out, GraphMode.PIECEWISE) == expected


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        pytest.param({}, 1, id="one rank"),
        pytest.param({"tensor_parallel_size": 8}, 3, id="FFTS+, TP"),
        pytest.param({"tensor_parallel_size": 8, "data_parallel_size": 2}, 5, id="FFTS+, TP x DP"),
        pytest.param({"tensor_parallel_size": 8, "expansion_mode": ExpansionMode.AI_CPU}, 3, id="AI CPU is not AIV"),
        pytest.param({"tensor_parallel_size": 8, "expansion_mode": AIV}, 2, id="AIV, TP"),
        pytest.param({"expert_parallel": True, "moe": True, "expansion_mode": AIV}, 2, id="AIV, EP"),
        pytest.param({"shared_expert_overlap": True, "moe": True, "expansion_mode": AIV}, 2, id="AIV, shared experts"),
        pytest.param({"data_parallel_size": 2, "moe": True, "expansion_mode": AIV}, 3, id="AIV, MoE over DP"),
        pytest.param({"data_parallel_size": 2, "expansion_mode": AIV}, 2, id="AIV, dense over DP"),
    ],
)
def test_streams_of_a_full_graph(layout: dict[str, Any], expected: int) -> None:
    assert streams_per_full(StreamLayout(num_layers=48, **layout)) == expected


@pytest.mark.parametrize(
    ("draft_layers", "expected"), [pytest.param(0, 49, id="no draft model"), pytest.param(2, 52, id="draft model")]
)
def test_a_piecewise_size_has_a_piece_around_each_attention(draft_layers: int, expected: int) -> None:
    assert streams_per_piecewise(StreamLayout(num_layers=48, num_draft_layers=draft_layers)) == expected


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (GraphMode.NONE, 0),
        (GraphMode.PIECEWISE, 15),
        (GraphMode.FULL, 3),
        (GraphMode.FULL_DECODE_ONLY, 3),
        (GraphMode.FULL_AND_PIECEWISE, 18),
    ],
)
def test_streams_of_a_size_by_mode(mode: GraphMode, expected: int) -> None:
    assert streams_per_size(StreamLayout(num_layers=4, tensor_parallel_size=2), mode) == expected


def test_eager_needs_no_streams() -> None:
    assert streams_per_size(StreamLayout(num_layers=4), GraphMode.NONE) == 0


def test_a_budget_is_never_negative() -> None:
    assert prior_budget(StreamLayout(num_layers=4, tensor_parallel_size=2), streams=10) == 0
