"""A covering subset of the fault matrix: every error, every phase, every ending."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.integration.fault_matrix import Ending, Row, rows, run_rows

COVERING = (
    ("join", None, "unknown", 0),
    ("propose", None, "crash", 1),
    ("warmup", 4, "hang", 1),
    ("warmup", 16, "slow", 0),
    ("capture", 4, "stream_exhausted", 1),
    ("capture", 16, "old_hdk", 0),
    ("warmup", 1, "device_fault", 0),
    ("capture", 16, "not_capturable", 1),
    ("seal", None, "out_of_memory", 0),
)
CHOSEN = tuple(row for row in rows() if (row.phase, row.size, row.error, row.rank) in COVERING)


@pytest.fixture(scope="module")
def problems() -> Mapping[Row, str]:
    return {row: problem for row, _, problem in run_rows(CHOSEN)}


def test_the_subset_covers_every_error_phase_and_ending() -> None:
    assert {row.error for row in CHOSEN} == {row.error for row in rows()}
    assert {row.phase for row in CHOSEN} == {row.phase for row in rows()}
    assert {row.ending for row in CHOSEN} == set(Ending)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("row", CHOSEN, ids=lambda row: row.name)
def test_fault_ends_as_expected(row: Row, problems: Mapping[Row, str]) -> None:
    assert problems[row] == ""
