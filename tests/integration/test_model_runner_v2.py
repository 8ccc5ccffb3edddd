"""The capture session on vLLM's Model Runner V2: same sealed set on all ranks, tokens equal stock vLLM's, over Ray.

Stock vLLM cannot run it here: its CPU build has no Triton. So the reference is its first model runner, in float32.
"""

from __future__ import annotations

import os

import pytest

from tests.integration.engines import Result, Scenario, run

pytestmark = pytest.mark.slow  # A start for each row; continuous integration has the seam on vLLM's own graph manager.

SIZES = (1, 2, 4, 8)
BATCHES = (1, 2, 3, 5, 8, 11)
"""Captured sizes, sizes between, and one above the largest."""

BASE = (f"graph.capture_sizes={list(SIZES)}", "vllm.dtype=float32")
ONE = "parallel.tensor_parallel_size=1"
ENVIRONMENT = {**os.environ, "VLLM_USE_V2_MODEL_RUNNER": "1"}

STARTS = {
    "one rank": (ONE, "graph.mode=FULL_DECODE_ONLY"),
    "decode": ("graph.mode=FULL_DECODE_ONLY",),
    "mixed": ("graph.mode=FULL",),
    "pieces": ("graph.mode=PIECEWISE",),
    "both": ("graph.mode=FULL_AND_PIECEWISE",),
    "eager": ("graph.mode=NONE",),
    "rank 1 short of streams": ("graph.mode=FULL_DECODE_ONLY", "emulated.stream_quota=[2048, 6]"),
    "rank 1 fails": (
        "graph.mode=FULL_DECODE_ONLY",
        "emulated.faults=[{rank: 1, phase: capture, size: 4, error: out_of_memory}]",
    ),
    "stages": (ONE, "parallel.pipeline_parallel_size=2", "graph.mode=FULL_DECODE_ONLY"),
    "the device takes time": ("graph.mode=FULL_AND_PIECEWISE", "emulated.device_time={fixed: 5, launch: 0.01}"),
}
MODES = {"one rank": "FULL_DECODE_ONLY", "decode": "FULL_DECODE_ONLY", "mixed": "FULL", "pieces": "PIECEWISE"}


@pytest.fixture(scope="module")
def stock() -> dict[str, list[list[int]]]:
    return next(iter(run([Scenario("stock", (*BASE, ONE), BATCHES, stock=True)]))).tokens


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    scenarios = [Scenario(name, (*BASE, *overrides), BATCHES) for name, overrides in STARTS.items()]
    return {result.name: result for result in run(scenarios, env=ENVIRONMENT)}


@pytest.mark.parametrize("name", STARTS)
def test_tokens_equal_stock_vllm(name: str, results: dict[str, Result], stock: dict[str, list[list[int]]]) -> None:
    assert results[name].error == ""
    assert results[name].tokens == stock


@pytest.mark.parametrize("name", STARTS)
def test_all_ranks_replay_the_same_graphs(name: str, results: dict[str, Result]) -> None:
    replays = results[name].replays
    assert len(set(replays)) == 1
    assert (replays[0] > 0) == (name != "eager")


@pytest.mark.parametrize("name", MODES)
def test_nothing_is_narrowed_where_nothing_fails(name: str, results: dict[str, Result]) -> None:
    plan = results[name].plan
    assert (plan.mode, plan.capture_sizes, plan.adjustments) == (MODES[name], SIZES, ())


def test_all_ranks_get_what_the_last_one_has_streams_for(results: dict[str, Result]) -> None:
    plan = results["rank 1 short of streams"].plan
    assert 0 < len(plan.capture_sizes) < len(SIZES)


def test_a_failed_capture_costs_its_size_on_all_ranks(results: dict[str, Result]) -> None:
    plan = results["rank 1 fails"].plan
    assert 4 not in plan.capture_sizes
    assert plan.epoch > 1
