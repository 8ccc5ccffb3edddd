"""Pipeline and data parallel layouts: one capture group over all ranks, and the tokens of eager."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ascend_serve import Engine
from ascend_serve.telemetry.report import GraphReport

pytestmark = pytest.mark.slow

DEMO = Path(__file__).parents[2] / "configs" / "demo.yaml"
BASE = ("graph.capture_sizes=[1, 2, 4]", "vllm.max_num_seqs=4")
PROMPTS = [f"request {number}: " + "how are you, world? " * (1 + number % 3) for number in range(5)]

PIPELINE = ("parallel.tensor_parallel_size=1", "parallel.pipeline_parallel_size=2")
DATA = ("parallel.tensor_parallel_size=2", "parallel.data_parallel_size=2", "emulated.npus=4")
SINGLE = ("parallel.tensor_parallel_size=1",)
TENSOR = ("parallel.tensor_parallel_size=2",)

# Overrides, the layout that has the same sums, and ranks.
LAYOUTS = [
    pytest.param(PIPELINE, SINGLE, 2, id="TP 1 x PP 2"),
    pytest.param(DATA, TENSOR, 4, id="TP 2 x DP 2"),
]


@pytest.mark.parametrize(("layout", "eager_layout", "ranks"), LAYOUTS)
def test_all_ranks_of_all_engines_capture_the_same_graphs_and_give_eager_tokens(
    layout: tuple[str, ...], eager_layout: tuple[str, ...], ranks: int
) -> None:
    tokens, report = _run(layout)
    assert report.outcome == "graph"
    assert report.effective_mode == "FULL_DECODE_ONLY"
    assert [rank.rank for rank in report.ranks] == list(range(ranks))
    assert {rank.graphs for rank in report.ranks} == {3}
    assert tokens == _run((*eager_layout, "graph.mode=NONE"))[0]


# Overrides, and streams of each rank: too few on the last one, whose graphs take one at TP 1 and more with collectives.
QUOTAS = [
    pytest.param(PIPELINE, [2048, 2], id="TP 1 x PP 2"),
    pytest.param(DATA, [2048, 2048, 2048, 5], id="TP 2 x DP 2"),
]


@pytest.mark.parametrize(("layout", "quota"), QUOTAS)
def test_a_rank_with_few_streams_gives_the_whole_group_fewer_sizes(layout: tuple[str, ...], quota: list[int]) -> None:
    _, report = _run((*layout, f"emulated.stream_quota={quota}"))
    assert report.outcome == "degraded"
    assert 0 < len(report.capture_sizes) < 3
    assert {rank.graphs for rank in report.ranks} == {len(report.capture_sizes)}


def _run(overrides: tuple[str, ...]) -> tuple[list[list[int]], GraphReport]:
    requests: list[Any] = [
        {"prompt": prompt, "max_tokens": 12, "temperature": 0, "ignore_eos": True, "return_token_ids": True}
        for prompt in PROMPTS
    ]
    with Engine.from_config(DEMO, (*BASE, *overrides)) as engine:
        answers = engine.generate(requests)
        return [answer.response["choices"][0]["token_ids"] for answer in answers if answer.response], engine.report()
