"""The conscience: in every mode graphs give the tokens of eager, and of stock vLLM, two ranks over Ray."""

from __future__ import annotations

import pytest

from tests.integration.engines import Result, Scenario, run

SIZES = (1, 2, 4, 8)
BATCHES = (1, 2, 3, 4, 5, 8, 11, 16)
"""Each captured size, sizes between, and above the largest."""

BASE = (f"graph.capture_sizes={list(SIZES)}",)
ON_SPARES = "PIECEWISE"
"""The mode in which the ranks run in processes that waited for them, as after the loss of an engine."""
MODES = ("FULL_DECODE_ONLY", "FULL", "PIECEWISE", "FULL_AND_PIECEWISE", "NONE")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("bfloat16", id="bfloat16, as the demo"),
        # Continuous integration has float32 on one NPU, and on two in the faults.
        pytest.param("float32", id="float32", marks=pytest.mark.slow),
    ],
)
def base(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return (*BASE, f"vllm.dtype={request.param}")


@pytest.fixture(scope="module")
def stock(base: tuple[str, ...]) -> Result:
    return next(iter(run([Scenario("stock", base, BATCHES, stock=True)])))


@pytest.fixture(scope="module")
def results(base: tuple[str, ...]) -> dict[str, Result]:
    scenarios = [Scenario(mode, (*base, f"graph.mode={mode}"), BATCHES, spares=mode == ON_SPARES) for mode in MODES]
    return {result.name: result for result in run(scenarios)}


@pytest.mark.parametrize("mode", MODES)
def test_tokens_equal_stock_vllm_at_every_batch_size(mode: str, results: dict[str, Result], stock: Result) -> None:
    assert results[mode].error == ""
    assert results[mode].tokens == stock.tokens


@pytest.mark.parametrize("mode", MODES)
def test_both_ranks_replay_the_same_graphs(mode: str, results: dict[str, Result]) -> None:
    replays = results[mode].replays
    assert replays[0] == replays[1]
    assert (replays[0] > 0) == (mode != "NONE")


@pytest.mark.parametrize("mode", MODES)
def test_nothing_was_narrowed(mode: str, results: dict[str, Result]) -> None:
    plan = results[mode].plan
    assert plan.mode == mode
    assert plan.adjustments == ()


def test_ranks_take_the_processes_that_wait_for_them(results: dict[str, Result]) -> None:
    waited = {name: result.spares for name, result in results.items() if result.spares}
    assert waited == {ON_SPARES: [results[ON_SPARES].known.ranks[rank].pid for rank in (0, 1)]}


@pytest.mark.slow  # Two starts; continuous integration has npugraph_ex on one NPU, and on two in the guide's examples.
def test_tokens_of_what_npugraph_ex_compiles_equal_stock_vllm() -> None:
    """In float32: in bfloat16 Inductor rounds otherwise than eager mode."""
    float32 = (*BASE, "vllm.dtype=float32")
    compiled = (*float32, "graph.mode=FULL_DECODE_ONLY", "graph.npugraph_ex.enabled=true")
    (stock,) = run([Scenario("stock", float32, BATCHES, stock=True)])
    (result,) = run([Scenario("npugraph_ex", compiled, BATCHES)])
    assert result.error == ""
    assert result.tokens == stock.tokens
    assert result.replays[0] == result.replays[1] > 0


def test_tokens_and_placement_of_stages_on_two_nodes(base: tuple[str, ...], stock: Result) -> None:
    """Two raylets with two NPUs each: a tensor-parallel group stays on a node, and the next stage takes the other."""
    scenario = Scenario("two nodes", (*base, "parallel.pipeline_parallel_size=2", "emulated.npus=4"), (1, 3, 8))
    (result,) = run([scenario], npus=2, nodes=2)
    assert result.error == ""
    assert result.tokens == {batch: stock.tokens[batch] for batch in result.tokens}
    first, second = result.nodes[0], result.nodes[2]
    assert result.nodes == [first, first, second, second]
    assert first != second
    assert {environment["LOCAL_WORLD_SIZE"] for environment in result.environments} == {"2"}
    assert len(set(result.replays)) == 1
    assert result.replays[0] > 0
