"""The conscience: in every mode graphs give the tokens of eager, and of stock vLLM, two ranks over Ray."""

from __future__ import annotations

import pytest

from tests.integration.engines import Result, Scenario, run

SIZES = (1, 2, 4, 8)
BATCHES = (1, 2, 3, 4, 5, 8, 11, 16)
"""Each captured size, sizes between, and above the largest."""

BASE = (f"graph.capture_sizes={list(SIZES)}",)
MODES = ("FULL_DECODE_ONLY", "FULL", "PIECEWISE", "FULL_AND_PIECEWISE", "NONE")
# What people run, in every mode; the type with bits to spare, in the modes that have all kinds of graphs between them.
STARTS = [*(("bfloat16", mode) for mode in MODES), ("float32", "FULL"), ("float32", "FULL_AND_PIECEWISE")]


def overrides(dtype: str, *more: str) -> tuple[str, ...]:
    return (*BASE, f"vllm.dtype={dtype}", *more)


@pytest.fixture(scope="module")
def stock() -> dict[str, Result]:
    scenarios = [Scenario(dtype, overrides(dtype), BATCHES, stock=True) for dtype in ("bfloat16", "float32")]
    return {scenario.name: next(iter(run([scenario]))) for scenario in scenarios}


@pytest.fixture(scope="module")
def results() -> dict[tuple[str, str], Result]:
    scenarios = [Scenario(mode, overrides(dtype, f"graph.mode={mode}"), BATCHES) for dtype, mode in STARTS]
    return dict(zip(STARTS, run(scenarios), strict=True))


@pytest.mark.parametrize("start", STARTS, ids=" ".join)
def test_tokens_equal_stock_vllm_at_every_batch_size(
    start: tuple[str, str], results: dict[tuple[str, str], Result], stock: dict[str, Result]
) -> None:
    assert results[start].error == ""
    assert results[start].tokens == stock[start[0]].tokens


@pytest.mark.parametrize("start", STARTS, ids=" ".join)
def test_both_ranks_replay_the_same_graphs(start: tuple[str, str], results: dict[tuple[str, str], Result]) -> None:
    replays = results[start].replays
    assert replays[0] == replays[1]
    assert (replays[0] > 0) == (start[1] != "NONE")


@pytest.mark.parametrize("start", STARTS, ids=" ".join)
def test_nothing_was_narrowed(start: tuple[str, str], results: dict[tuple[str, str], Result]) -> None:
    snapshot = results[start].snapshot
    assert snapshot["plan"]["mode"] == start[1]
    assert snapshot["adjustments"] == []


def test_tokens_and_placement_of_stages_on_two_nodes(stock: dict[str, Result]) -> None:
    """Two raylets with two NPUs each: a tensor-parallel group stays on a node, and the next stage takes the other."""
    scenario = Scenario("two nodes", (*BASE, "parallel.pipeline_parallel_size=2", "emulated.npus=4"), (1, 3, 8))
    (result,) = run([scenario], npus=2, nodes=2)
    assert result.error == ""
    assert result.tokens == {batch: stock["bfloat16"].tokens[batch] for batch in result.tokens}
    first, second = result.nodes[0], result.nodes[2]
    assert result.nodes == [first, first, second, second]
    assert first != second
    assert {environment["LOCAL_WORLD_SIZE"] for environment in result.environments} == {"2"}
    assert len(set(result.replays)) == 1
    assert result.replays[0] > 0
