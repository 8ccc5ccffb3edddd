"""Two faults on real engines: rows that cover all pairs of what the two are, held against the simulated group.

``python -m tests.integration.fault_pairs OUT.md [PATTERN]`` runs them, or those whose names a pattern like ``hang-*``
matches, and writes a table.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from ascend_serve.capture.messages import Phase
from tests.integration.engines import Result, Scenario
from tests.integration.fault_table import BASE, BATCHES, DEADLINES, main, problem_of_what_is_served
from tests.unit.capture.simulated import Fault
from tests.unit.capture.two_faults import Start, alone, end_in_words, faults, name

KINDS = ("stream_exhausted", "out_of_memory", "unknown", "hang", "crash", "slow")
"""One of each treatment: the others differ from these in name alone, which every single one is tested for."""

PHASES = (Phase.JOIN, Phase.PROPOSE, Phase.WARMUP, Phase.CAPTURE, Phase.SEAL)

_SIZE = 4
"""In the middle: what is smaller is captured after it, what is larger stays where anything does."""

Trait = tuple[str, str]
"""Two of what a pair is made of: the kind and the phase of the first, the kind and the phase of the second."""


@dataclass(frozen=True)
class Pair:
    """Two faults of one start, in the order in which they strike."""

    first: Fault
    second: Fault

    @property
    def name(self) -> str:
        """A readable id."""
        return f"{name(self.first)}-then-{name(self.second)}"

    @property
    def scenario(self) -> Scenario:
        """The deployment with these faults."""
        both = (self.first, self.second)
        deadlines = sorted({DEADLINES[fault.phase.value] for fault in both if fault.error == "hang"})
        scripted = ", ".join(map(_scripted, both))
        return Scenario(self.name, (*BASE, *deadlines, f"emulated.faults=[{scripted}]"), BATCHES)

    @property
    def start(self) -> Start:
        """The same in the group without processes."""
        return Start((self.first, self.second))

    @property
    def expectation(self) -> str:
        """How that one ends."""
        return self.start.end

    def problem(self, result: Result, eager: Result) -> str:
        """What is wrong with the outcome; empty when it is as in the group without processes."""
        outcome = result.known.outcome
        found = "no outcome" if outcome is None else end_in_words(outcome)
        if found != self.expectation:
            return f"expected {self.expectation}; found {found} {result.error}"
        if not result.error:
            return problem_of_what_is_served(result, eager)
        return "" if "Rank" in result.error or "rank" in result.error else f"an end without its cause: {result.error}"

    @property
    def traits(self) -> frozenset[Trait]:
        """What it covers."""
        parts = (
            f"first {self.first.error}",
            f"first in {self.first.phase.value}",
            f"second {self.second.error}",
            f"second in {self.second.phase.value}",
        )
        return frozenset(itertools.combinations(parts, 2))


def _scripted(fault: Fault) -> str:
    size = "" if fault.size is None else f", size: {fault.size}"
    where = f"rank: {fault.rank}, incarnation: {fault.incarnation}"
    return f"{{{where}, phase: {fault.phase.value}{size}, error: {fault.error}}}"


def _chosen(incarnation: int, rank: int) -> Iterator[Fault]:
    for fault in faults(incarnation):
        is_wanted = fault.error in KINDS and fault.phase in PHASES and fault.size in (None, _SIZE)
        # Of a rank that hangs before the others are there the group hears after minutes.
        if is_wanted and fault.rank == rank and (fault.error, fault.phase) != ("hang", Phase.JOIN):
            yield fault


def feasible() -> Iterator[Pair]:
    """Pairs of which both strike, one after the other whatever the processes' pace."""
    for first in _chosen(0, rank=0):
        replaced = alone(first).outcome.incarnation
        for second in _chosen(replaced, rank=1):
            pair = Pair(first, second)
            if pair.start.struck == (first, second):
                yield pair


@cache
def covering() -> tuple[Pair, ...]:
    """Rows, chosen one by one for most of what is not covered yet, until all is that two faults can be."""
    left = {pair: pair.traits for pair in feasible()}
    rows: list[Pair] = []
    while left:
        best = max(left, key=lambda pair: len(left[pair]))
        rows.append(best)
        covered = best.traits
        left = {pair: rest for pair, traits in left.items() if (rest := traits - covered)}
    return tuple(rows)


if __name__ == "__main__":
    main(covering())
