"""The capture session on torch_npu: two ranks with HCCL capture in lockstep, and go down the ladder together."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
STREAMS_PER_GRAPH = 2
"""The stream that computes, and HCCL's own, which every collective draws in."""

RUNS = 20
# Streams left on rank 1, between none and enough for all five sizes: some graphs are refused when they begin, and some
# in their middle, when the collectives' stream is drawn in.
LEFT = {f"run {run}": random.Random(run).randrange(0, 11) for run in range(RUNS)}
FAULTS = {
    "a kernel fails in a warm-up": ("aclnnSwiGlu@5=507015", "device fault"),
    "a collective hangs": ("HcclAllReduce@6=hang", "deadline"),
    "the device refuses the end of a capture": ("aclmdlRICaptureEnd@2=107025", "not capturable"),
}


@pytest.fixture(scope="module")
def reports() -> dict[str, Any]:
    """All starts, one after another, forked from one process that has imported everything and used no NPU."""
    program = f"""
import json
from tests.npu.group import Trouble, report
troubles = {{name: Trouble(graphs=left) for name, left in {LEFT}.items()}}
for name, (script, _) in {FAULTS}.items():
    troubles[name] = Trouble(script=script, patience=10.0 if "hang" in script else 60.0)
print(json.dumps({{name: report(trouble) for name, trouble in troubles.items()}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"VLLM_LOGGING_LEVEL": "ERROR"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=280,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def check_sealed(report: dict[str, Any]) -> None:
    """Whatever happened: one sealed set on both ranks, and tokens that are those without graphs."""
    assert report["outcomes"][-1] == "sealed"
    assert report["held"] == [report["planned"], report["planned"]]
    assert report["ranks agree"]
    assert report["equals eager"] == [True, True]


@pytest.mark.parametrize("name", LEFT)
def test_exhaustion_on_one_rank_ends_in_one_set_on_both(name: str, reports: dict[str, Any]) -> None:
    check_sealed(reports[name])
    fit = LEFT[name] // STREAMS_PER_GRAPH
    assert len(reports[name]["planned"]) == fit
    # A graph that is refused when it begins leaves its process clean; one that is refused in its middle does not.
    is_clean = LEFT[name] % STREAMS_PER_GRAPH == 0
    assert reports[name]["outcomes"] == (["sealed"] if is_clean else ["replace", "sealed"])


@pytest.mark.parametrize("name", FAULTS)
def test_faults_replace_both_ranks(name: str, reports: dict[str, Any]) -> None:
    check_sealed(reports[name])
    assert reports[name]["outcomes"] == ["replace", "sealed"]
    assert FAULTS[name][1] in reports[name]["reasons"][0]


def test_all_runs_answer_alike(reports: dict[str, Any]) -> None:
    """Padding differs from run to run, and with it the shapes; the tokens must not at batches that are never padded."""
    assert len({json.dumps(report["tokens"][-1]) for report in reports.values()}) == 1


def test_the_runs_cover_both_ways_down() -> None:
    assert {0, 1} <= {left % STREAMS_PER_GRAPH for left in LEFT.values()}
    assert {left // STREAMS_PER_GRAPH for left in LEFT.values()} == {0, 1, 2, 3, 4, 5}
