"""Random stream quotas per rank: the session keeps the best sizes that fit, found by trying every set."""

import random
from itertools import combinations

import pytest

from ascend_serve.capture.outcome import OutcomeKind
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import GraphRequest
from ascend_serve.graph.stream_budget import plan_keys
from tests.unit.capture.simulated import Device, Group, able

CANDIDATES = (1, 2, 4, 8, 12, 16, 24, 32)


def padding(sizes: tuple[int, ...], weights: dict[int, float]) -> float:
    """Expected padded tokens of a step, with the largest size always there."""
    return sum(share * (min(size for size in sizes if size >= n) - n) for n, share in weights.items())


def best_padding(asked: GraphRequest, devices: list[Device], weights: dict[int, float]) -> float:
    """The least padding of all sets of sizes that hold the largest and fit every device."""
    fitting = [
        (*chosen, CANDIDATES[-1])
        for count in range(len(CANDIDATES))
        for chosen in combinations(CANDIDATES[:-1], count)
        if all(
            sum(map(device.price, plan_keys(asked, asked.mode, (*chosen, CANDIDATES[-1])))) <= (device.quota or 0)
            for device in devices
        )
    ]
    return min(padding(sizes, weights) for sizes in fitting)


@pytest.mark.parametrize("seed", range(50))
def test_the_sizes_kept_are_the_best_that_fit(seed: int) -> None:
    draw = random.Random(seed)
    mode = draw.choice([GraphMode.FULL_DECODE_ONLY, GraphMode.PIECEWISE, GraphMode.FULL_AND_PIECEWISE])
    weights = {n: draw.random() for n in range(1, CANDIDATES[-1] + 1)}
    asked = GraphRequest(RuntimeName.ACLGRAPH, mode, CANDIDATES, max_num_seqs=32, weights=weights)
    ranks = draw.randint(1, 8)
    tells = draw.random() < 0.5
    costs = [(draw.randint(1, 4), draw.randint(5, 30)) for _ in range(ranks)]
    devices = [Device(draw.randint(full + pieces, 300), full, pieces, tells) for full, pieces in costs]
    # Where the device tells what a graph takes, the estimate may be wrong: all cost 1 here.
    estimates = [(1, 1) if tells else cost for cost in costs]
    proposals = [able(asked, streams_per_full=full, streams_per_piecewise=pieces) for full, pieces in estimates]
    group = Group(asked, ranks, prepare=lambda rank: (proposals[rank], devices[rank]))
    outcome = group.run()
    assert outcome.kind is OutcomeKind.SEALED
    assert outcome.plan is not None
    assert outcome.plan.mode is mode
    assert padding(outcome.plan.capture_sizes, weights) == pytest.approx(best_padding(asked, devices, weights))
    assert len(group.outcomes) == 1
