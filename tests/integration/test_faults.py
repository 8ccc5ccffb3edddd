"""A covering subset of the fault matrix: every error, every phase, every ending; and two faults in one start."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ascend_serve.capture.messages import Phase
from tests.integration.fault_matrix import Ending, Row, rows
from tests.integration.fault_pairs import Pair, covering
from tests.integration.fault_table import run_rows
from tests.unit.capture.simulated import Fault

COVERING = (
    ("join", None, "unknown", 0),
    ("warmup", 4, "hang", 1),
    ("warmup", 16, "slow", 0),
    ("capture", 4, "stream_exhausted", 1),
    ("capture", 16, "old_hdk", 0),
    ("warmup", 1, "device_fault", 0),
    ("capture", 16, "not_capturable", 1),
    ("seal", None, "out_of_memory", 0),
)
CHOSEN = tuple(row for row in rows() if (row.phase, row.size, row.error, row.rank) in COVERING)


REPLACED_AND_STRUCK_AGAIN = Pair(
    Fault(1, Phase.PROPOSE, "crash", incarnation=0),
    Fault(0, Phase.CAPTURE, "stream_exhausted", 4, recorded=False, incarnation=1),
)


@pytest.fixture(scope="module")
def problems() -> Mapping[Row | Pair, str]:
    chosen: tuple[Row | Pair, ...] = (*CHOSEN, REPLACED_AND_STRUCK_AGAIN)
    return {row: problem for row, _, problem in run_rows(chosen)}


def test_the_subset_covers_every_error_phase_and_ending() -> None:
    first = REPLACED_AND_STRUCK_AGAIN.first
    assert {first.error, *(row.error for row in CHOSEN)} == {row.error for row in rows()}
    assert {first.phase.value, *(row.phase for row in CHOSEN)} == {row.phase for row in rows()}
    assert {row.ending for row in CHOSEN} == set(Ending)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("row", CHOSEN, ids=lambda row: row.name)
def test_fault_ends_as_expected(row: Row, problems: Mapping[Row | Pair, str]) -> None:
    assert problems[row] == ""


def test_a_second_fault_in_the_processes_that_take_their_place(problems: Mapping[Row | Pair, str]) -> None:
    assert problems[REPLACED_AND_STRUCK_AGAIN] == ""


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_two_faults_end_as_in_the_group_without_processes() -> None:
    assert [f"{pair.name}: {problem}" for pair, _, problem in run_rows(covering()) if problem] == []
