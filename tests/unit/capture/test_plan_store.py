"""Remembered plans: kept by fingerprint, forgotten on demand, and never a reason not to start."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ascend_serve.capture.plan_store import PlanStore, fingerprint_digest
from ascend_serve.graph.keys import capture_keys
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import Adjustment, CapturePlan

SIZES = (1, 8)
PLAN = CapturePlan(
    epoch=3,
    runtime=RuntimeName.ACLGRAPH,
    mode=GraphMode.FULL_AND_PIECEWISE,
    capture_sizes=SIZES,
    keys=capture_keys(GraphMode.FULL_AND_PIECEWISE, SIZES, max_num_seqs=8),
    adjustments=(Adjustment("capture-failure", "1, 2, 8", "1, 8", "no streams left"),),
)


def test_a_plan_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    store = PlanStore(tmp_path / "plans")
    store.save("a", PLAN)
    assert store.load("a") == PLAN
    assert store.load("b") is None


@pytest.mark.parametrize("text", ["", "{", '{"epoch": 1}'], ids=["empty", "broken", "of another version"])
def test_a_damaged_file_counts_as_none(text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.json").write_text(text)
    with caplog.at_level(logging.WARNING):
        assert PlanStore(tmp_path).load("a") is None
    assert "a.json" in caplog.text


def test_forgetting_tells_how_many_there_were(tmp_path: Path) -> None:
    store = PlanStore(tmp_path)
    store.save("a", PLAN)
    store.save("b", PLAN)
    assert (store.forget(), store.forget()) == (2, 0)
    assert store.load("a") is None


def test_every_entry_of_a_fingerprint_counts() -> None:
    fingerprint = {"vllm": "0.32.0", "dtype": "bfloat16"}
    changed = [{**fingerprint, name: "other"} for name in fingerprint]
    digests = {fingerprint_digest(entries) for entries in (fingerprint, *changed)}
    assert len(digests) == 3
    assert fingerprint_digest(dict(reversed(fingerprint.items()))) in digests
