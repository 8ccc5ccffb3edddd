"""Two faults on real engines: rows that cover all pairs of what the two are, held against the simulated group.

``python -m tests.integration.fault_pairs OUT.md [PATTERN]`` runs them, or those whose names a pattern like ``hang-*``
matches, and writes a table.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from ascend_serve.capture.messages import Phase
from ascend_serve.graph.modes import RuntimeName
from tests.integration.engines import Result, Scenario, run
from tests.integration.fault_matrix import BASE, BATCHES, DEADLINES, reference
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


def problem(pair: Pair, result: Result, eager: Result) -> str:
    """What is wrong with the outcome of a row; empty when it is as in the group without processes."""
    outcome = result.known.outcome
    found = "no outcome" if outcome is None else end_in_words(outcome)
    if found != pair.start.end:
        return f"expected {pair.start.end}; found {found} {result.error}"
    if result.error:
        return "" if "Rank" in result.error or "rank" in result.error else f"an end without its cause: {result.error}"
    if result.tokens != eager.tokens:
        return "tokens differ from eager"
    if len(set(result.replays)) != 1:
        return f"ranks replay {result.replays} graphs: a mixed group"
    if (result.replays[0] == 0) != (result.plan.runtime is RuntimeName.EAGER):
        return f"{result.replays[0]} replays in a group that says {result.plan.runtime}"
    return ""


def run_rows(chosen: Sequence[Pair]) -> Iterable[tuple[Pair, Result, str]]:
    """Run rows and say of each what is wrong with it."""
    results = run([reference(), *(pair.scenario for pair in chosen)])
    eager = next(iter(results))
    for pair, result in zip(chosen, results, strict=True):
        yield pair, result, problem(pair, result, eager)


def main() -> None:
    """Run all rows, or those that were asked for, and write the table as it grows."""
    table, pattern = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "*"
    chosen = [pair for pair in covering() if fnmatch(pair.name, pattern)]
    lines = ["| faults | expected | result | seconds to ready |", "|---|---|---|---|"]
    failed = 0
    for pair, result, wrong in run_rows(chosen):
        failed += bool(wrong)
        lines.append(f"| {pair.name} | {pair.start.end} | {wrong or 'as expected'} | {result.seconds:.0f} |")
        print(lines[-1], flush=True)
        table.write_text("\n".join([*lines, ""]))
    done = len(lines) - 2
    table.write_text("\n".join([*lines, "", f"{done - failed} of {len(chosen)} rows as expected", ""]))
    sys.exit(failed > 0 or done < len(chosen))


if __name__ == "__main__":
    main()
