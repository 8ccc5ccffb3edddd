"""The capture session on torch_npu: two ranks with HCCL capture in lockstep, and go down the ladder together."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest

from tests.npu.group import Trouble, report

STREAMS_PER_GRAPH = 2
"""The stream that computes, and HCCL's own, which every collective draws in."""

RUNS = 20
HANG_SECONDS = 30.0
"""After which the driver gives up on the rank that hangs in a collective; a graph takes milliseconds."""
# Streams left on rank 1, between none and enough for all five sizes: some graphs are refused when they begin, and some
# in their middle, when the collectives' stream is drawn in.
LEFT = {f"run {run}": random.Random(run).randrange(0, 11) for run in range(RUNS)}
FAULTS = {
    "a kernel fails in a warm-up": ("aclnnSwiGlu@5=507015", "device fault"),
    "a collective hangs": ("HcclAllReduce@6=hang", "deadline"),
    "the device refuses the end of a capture": ("aclmdlRICaptureEnd@2=107025", "not capturable"),
    "a capture spoils the weights": ("aclmdlRICaptureEnd@2=corrupt", "wrong numbers: the canary's logits changed"),
}


@cache
def report_of(name: str) -> dict[str, Any]:
    """What came of the start called ``name``."""
    if name in LEFT:
        return report(Trouble(graphs=LEFT[name]))
    script = FAULTS[name][0]
    return report(Trouble(script=script, patience=HANG_SECONDS if "hang" in script else Trouble.patience))


def check_sealed(told: dict[str, Any]) -> None:
    """Whatever happened: one sealed set on both ranks, and tokens that are those without graphs."""
    story = "\n".join(told["events"])
    assert told["outcomes"][-1] == "sealed", story
    assert told["held"] == [told["planned"], told["planned"]], story
    assert told["ranks agree"], story
    assert told["equals eager"] == [True, True], story


@pytest.mark.parametrize("name", LEFT)
def test_exhaustion_on_one_rank_ends_in_one_set_on_both(name: str) -> None:
    told = report_of(name)
    check_sealed(told)
    fit = LEFT[name] // STREAMS_PER_GRAPH
    # A graph that is refused when it begins leaves its process clean; one that is refused in its middle does not.
    is_clean = LEFT[name] % STREAMS_PER_GRAPH == 0
    way = ["sealed"] if is_clean else ["replace", "sealed"]
    assert (len(told["planned"]), told["outcomes"]) == (fit, way), "\n".join(told["events"])


@pytest.mark.parametrize("name", FAULTS)
def test_faults_replace_both_ranks(name: str) -> None:
    told = report_of(name)
    check_sealed(told)
    assert told["outcomes"] == ["replace", "sealed"], "\n".join(told["events"])
    assert FAULTS[name][1] in told["reasons"][0]


def test_all_runs_answer_alike() -> None:
    """Padding differs from run to run, and with it the shapes; the tokens must not at batches that are never padded."""
    tokens = [report_of(name)["tokens"][-1] for name in (*LEFT, *FAULTS)]
    assert tokens == [tokens[0]] * len(tokens)


def test_the_runs_cover_both_ways_down() -> None:
    assert {0, 1} <= {left % STREAMS_PER_GRAPH for left in LEFT.values()}
    assert {left // STREAMS_PER_GRAPH for left in LEFT.values()} == {0, 1, 2, 3, 4, 5}
