"""The table of docs/simulator.md is what the tests on the simulated CANN hold every release to."""

from __future__ import annotations

from pathlib import Path

from tests.npu.cases import CASES, OUTCOMES, table
from tests.npu.vllm_ascend import STACKS


def test_the_document_has_the_table_of_the_tests() -> None:
    document = Path(__file__).parents[2] / "docs" / "simulator.md"
    assert "\n".join(table()) in document.read_text(encoding="utf-8")


def test_outcomes_are_of_cases_and_stacks_that_exist() -> None:
    assert set(OUTCOMES) <= set(CASES)
    assert {stack for told in OUTCOMES.values() for stack in told} <= {stack.name for stack in STACKS}
