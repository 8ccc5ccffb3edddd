"""A rank whose process dies while the engine starts: how it is named, and when that ends the start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ascend_serve.capture.outcome import OutcomeKind
from tests.integration.engines import Result, Scenario, run

TWICE = "{rank: 0, phase: seal, error: crash, signal: SIGBUS, processes: 2}"
ON_ANOTHER_NODE = "{rank: 1, phase: seal, error: crash, signal: SIGILL, processes: 2}"
EAGER = ("graph.mode=NONE", "parallel.tensor_parallel_size=1")


@pytest.fixture(scope="module")
def twice() -> Result:
    (result,) = run([Scenario("twice", (*EAGER, f"emulated.faults=[{TWICE}]"))], npus=1)
    return result


def test_the_same_death_twice_ends_the_start(twice: Result) -> None:
    assert twice.known.outcome is not None
    assert twice.known.outcome.kind is OutcomeKind.ABORT
    assert twice.known.incarnation == 1


def test_the_error_has_signal_place_and_advice(twice: Result) -> None:
    assert "in seal: lost: its worker process was ended by SIGBUS (bus error), as before" in twice.error
    assert "--shm-size" in twice.error


def test_the_error_has_the_calls_in_which_the_rank_died(twice: Result) -> None:
    assert "_crash (" in twice.error
    assert ".err, says:" in twice.error


@pytest.mark.slow
def test_a_peer_that_notices_first_does_not_hide_a_death_on_another_node() -> None:
    results: Iterator[Result] = run([Scenario("node", (f"emulated.faults=[{ON_ANOTHER_NODE}]",))], npus=1, nodes=2)
    (result,) = results
    assert result.known.incarnation == 1
    assert "rank 1" in result.error
    assert "ended by SIGILL (illegal instruction), as before" in result.error
    assert "_crash (" in result.error
