"""vllm-ascend's own worker, model runner and graphs on the simulated CANN, in lockstep under our capture session.

The criterion: in float32, the greedy tokens of a Qwen3 with random weights are exactly those that transformers computes
on the CPU from the same weights, one request at a time: with graphs and without, on one NPU and on two, padded or not.
For each release, and each of its model runners.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ascend_serve.releases import Release
from tests.npu.start import BATCHES, SIZES, Start
from tests.npu.vllm_ascend import RELEASES, SOURCES, STACKS, STARTER, Stack, told_by
from tests.triton_names import missing

PATIENCE = 7200.0
"""Seconds for all starts of a release on one of its model runners."""

pytestmark = pytest.mark.timeout(PATIENCE + 60)

STARTS = {
    "eager": partial(Start),
    "full": partial(Start, mode="FULL_DECODE_ONLY"),
    "full, npugraph_ex off": partial(Start, mode="FULL_DECODE_ONLY", npugraph_ex=False),
    "full, no streams": partial(Start, mode="FULL_DECODE_ONLY", graphs=0),
    "full, two ranks": partial(Start, mode="FULL_DECODE_ONLY", ranks=2),
    "full, two ranks, streams for two graphs": partial(Start, mode="FULL_DECODE_ONLY", ranks=2, graphs=4),
    "full, two ranks, streams for one and a half": partial(Start, mode="FULL_DECODE_ONLY", ranks=2, graphs=3),
    "piecewise": partial(Start, mode="PIECEWISE"),
    "piecewise, two ranks": partial(Start, mode="PIECEWISE", ranks=2),
}
GRAPHS = [name for name in STARTS if name != "eager"]
SHORT = {
    "full, no streams": (["sealed"], ()),
    "full, two ranks, streams for two graphs": (["sealed"], (2, 8)),
    "full, two ranks, streams for one and a half": (["replace", "sealed"], (8,)),
}
"""Outcomes and planned sizes. With collectives a graph takes two streams; the second may run out in its middle."""


@pytest.fixture(scope="module", params=STACKS, ids=lambda stack: stack.name)
def reports(request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of all starts."""
    stack: Stack = request.param
    starts = json.dumps({name: asdict(start(str(model))) for name, start in STARTS.items()})
    return told_by(stack, STARTER, starts, tmp_path_factory.mktemp("cache"), PATIENCE)


@pytest.mark.parametrize("name", STARTS)
def test_tokens_are_those_of_transformers(name: str, reports: dict[str, Any], expected: list[list[int]]) -> None:
    for rank in reports[name]["ranks"]:
        assert rank["tokens"] == [expected[:batch] for batch in BATCHES]


@pytest.mark.parametrize("name", GRAPHS)
def test_the_group_agrees_on_what_streams_suffice_for(name: str, reports: dict[str, Any]) -> None:
    outcomes, sizes = SHORT.get(name, (["sealed"], SIZES))
    assert reports[name]["outcomes"] == outcomes
    assert tuple(reports[name]["planned"]) == sizes


def test_the_reason_for_fresh_workers_is_the_devices(reports: dict[str, Any]) -> None:
    reason = reports["full, two ranks, streams for one and a half"]["reasons"][0]
    assert "rank 1 (here) in capture of FULL/4: stream exhausted" in reason
    assert "The stream resources are insufficient" in reason


@pytest.mark.parametrize("name", GRAPHS)
def test_every_rank_holds_and_replays_the_planned_graphs(name: str, reports: dict[str, Any]) -> None:
    kind = "PIECEWISE" if name.startswith("piecewise") else "FULL"
    planned = reports[name]["planned"]
    for rank in reports[name]["ranks"]:
        assert rank["held"] == [f"{kind} {size}" for size in planned]
        assert bool(rank["replays"]) == bool(planned)


@pytest.mark.parametrize("name", STARTS)
def test_the_model_runs_in_the_operators_of_the_device(name: str, reports: dict[str, Any]) -> None:
    operators = {"aclnnFusedInferAttentionScoreV3", "aclnnScatterPaKvCache", "aclnnAddRmsNorm", "aclnnSwiGlu"}
    for rank in reports[name]["ranks"]:
        assert operators <= set(rank["launched"])


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.vllm_ascend)
def test_kernels_of_model_runner_v2_ask_for_nothing_that_is_not_there(release: Release) -> None:
    folders = ("vllm/v1/worker/gpu", "vllm_ascend/worker/v2")
    assert list(missing(SOURCES / release.vllm_ascend / folder for folder in folders)) == []
