"""Models and layouts beside the dense one on vllm-ascend and the simulated CANN, by the criterion of ``cases.py``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from typing import Any

import pytest

from tests.npu.cases import CASES, HOLDS, OUTCOMES, seen
from tests.npu.models import make
from tests.npu.start import SIZES, Start
from tests.npu.vllm_ascend import STACKS, STARTER, Stack, told_by

PATIENCE = 7200.0
"""Seconds for all starts of a release on one of its model runners."""

pytestmark = pytest.mark.timeout(PATIENCE + 60)

MODE = "FULL_DECODE_ONLY"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {name: str(make(name, folder)) for name in sorted({case.model for case in CASES.values()})}


@pytest.fixture(scope="module")
def reports(models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[Stack], dict[str, Any]]:
    """What came of each case that was seen on a stack, eager and with graphs; a stack is started once."""
    known = {stack.name: stack for stack in STACKS}

    @cache
    def of(name: str) -> dict[str, Any]:
        stack = known[name]
        starts = {
            f"{case}: {mode}": asdict(Start(models[CASES[case].model], mode, **CASES[case].options))
            for case in seen(stack)
            for mode in ("NONE", MODE)
        }
        return told_by(stack, STARTER, json.dumps(starts), tmp_path_factory.mktemp("cache"), PATIENCE)

    return lambda stack: of(stack.name)


SEEN = [
    pytest.param(stack, name, OUTCOMES[name][stack.name], id=f"{stack.name}, {name}")
    for stack in STACKS
    for name in seen(stack)
]


@pytest.mark.parametrize(("stack", "name", "outcome"), SEEN)
def test_graphs_on_all_ranks_and_the_tokens_of_an_eager_start(
    stack: Stack, name: str, outcome: str, reports: Callable[[Stack], dict[str, Any]]
) -> None:
    told = reports(stack)
    eager, graphs = told[f"{name}: NONE"], told[f"{name}: {MODE}"]
    if outcome != HOLDS:
        assert outcome in str(graphs.get("stopped"))
        return
    for report in (eager, graphs):
        assert "stopped" not in report, report["said"][-3000:]
    assert graphs["outcomes"] == ["sealed"]
    assert graphs["planned"] == list(CASES[name].options.get("sizes", SIZES))
    for rank, reference in zip(graphs["ranks"], eager["ranks"], strict=True):
        assert rank["held"] == sorted(f"FULL {size}" for size in graphs["planned"])
        assert rank["replays"]
        assert rank["tokens"] == reference["tokens"]
