"""The fault matrix: every error in every phase on every rank, and what must come of it.

``python -m tests.integration.fault_matrix OUT.md [PATTERN]`` runs all of it, or the rows whose names a pattern like
``hang-*`` matches, and writes a table; the tests run a covering subset.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from enum import StrEnum

from ascend_serve.graph.modes import RuntimeName
from tests.integration.engines import Result, Scenario
from tests.integration.fault_table import BASE, BATCHES, DEADLINES, main, problem_of_what_is_served
from tests.unit.capture.two_faults import ERRORS, SIZES


class Ending(StrEnum):
    """What must come of a fault."""

    UNHARMED = "all graphs, same workers"
    FEWER_IN_PLACE = "fewer graphs, same workers"
    EAGER_IN_PLACE = "eager, same workers"
    RETRIED = "all graphs, fresh workers"
    FEWER_FRESH = "fewer graphs, fresh workers"
    EAGER_FRESH = "eager, fresh workers"


@dataclass(frozen=True)
class Row:
    """One fault and its expected ending."""

    phase: str
    size: int | None
    error: str
    rank: int
    ending: Ending

    @property
    def name(self) -> str:
        """A readable id."""
        at = "" if self.size is None else f"-{self.size}"
        return f"{self.error}-in-{self.phase}{at}-on-rank-{self.rank}"

    @property
    def scenario(self) -> Scenario:
        """The deployment with this fault."""
        size = "" if self.size is None else f", size: {self.size}"
        fault = f"{{rank: {self.rank}, phase: {self.phase}{size}, error: {self.error}}}"
        deadlines = (DEADLINES[self.phase],) if self.error == "hang" else ()
        return Scenario(self.name, (*BASE, *deadlines, f"emulated.faults=[{fault}]"), BATCHES)

    @property
    def expectation(self) -> str:
        """The ending in words."""
        return self.ending.value

    def problem(self, result: Result, eager: Result) -> str:
        """What is wrong with the outcome; empty when it is as expected."""
        if result.error:
            return f"did not start: {result.error}"
        if wrong := problem_of_what_is_served(result, eager):
            return wrong
        found = ending(result)
        return "" if found is self.ending else f"expected {self.ending.value}, found {found.value}"


def expected(phase: str, size: int | None, error: str) -> Ending:
    """What the ladder makes of an error in a phase of a group of two ranks.

    Outside of warm-up and capture an error says nothing about the process it struck, and before the agreement nothing
    about any plan: fresh workers try again once. Within a warm-up the peer hangs in a collective, within a capture the
    recording is half done: fresh workers for both, and the ladder's step of the class.
    """
    if error == "slow":
        return Ending.UNHARMED
    if phase in ("join", "propose"):
        return Ending.RETRIED
    if error == "crash":
        return Ending.RETRIED
    # When the first graph finds no streams, none fits.
    fewer = error == "out_of_memory" or (error == "stream_exhausted" and size != max(SIZES))
    is_refused = phase == "capture" and error in ("stream_exhausted", "old_hdk")
    if is_refused:
        return Ending.FEWER_IN_PLACE if fewer else Ending.EAGER_IN_PLACE
    return Ending.FEWER_FRESH if fewer else Ending.EAGER_FRESH


def rows() -> tuple[Row, ...]:
    """The whole matrix."""
    places: list[tuple[str, int | None]] = [
        ("join", None),
        ("propose", None),
        *itertools.product(("warmup", "capture"), SIZES),
        ("seal", None),
    ]
    return tuple(
        Row(phase, size, error, rank, expected(phase, size, error))
        for (phase, size), error, rank in itertools.product(places, ERRORS, (0, 1))
    )


def ending(result: Result) -> Ending:
    """What came of a fault, read from the driver's last snapshot."""
    plan, fresh = result.plan, result.known.incarnation > 0
    if plan.runtime is RuntimeName.EAGER:
        return Ending.EAGER_FRESH if fresh else Ending.EAGER_IN_PLACE
    if len(plan.capture_sizes) < len(SIZES):
        return Ending.FEWER_FRESH if fresh else Ending.FEWER_IN_PLACE
    return Ending.RETRIED if fresh else Ending.UNHARMED


if __name__ == "__main__":
    main(rows())
