"""The fault matrix: every error in every phase on every rank, and what must come of it.

``python -m tests.integration.fault_matrix OUT.md [PATTERN]`` runs all of it, or the rows whose names a pattern like
``hang-*`` matches, and writes a table; the tests run a covering subset.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatch
from pathlib import Path

from ascend_serve.graph.modes import RuntimeName
from tests.integration.engines import Result, Scenario, run

SIZES = (1, 4, 16)
"""Captured largest first: 16 is the first size, 4 is in the middle, 1 is the last."""

BATCHES = (1, 3)
DEADLINES = {
    "join": "graph.deadlines.join=300",
    "propose": "graph.deadlines.propose=60",
    "warmup": "graph.deadlines.capture=60",
    "capture": "graph.deadlines.capture=60",
    "seal": "graph.deadlines.seal=60",
}
"""Where a rank hangs, the group waits for less than by default. It is still many times what the others take there, on a
busy machine too: in ``join`` the fresh workers have to load within it. All other meetings keep their defaults."""


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


# A group that lost a size pads to a larger one, and the kernels of a CPU sum differently for other numbers of rows
# (vLLM 0.32 has small ones below 5): what that changes in the last bit shows in bfloat16, not in tokens of float32.
BASE = (f"graph.capture_sizes={list(SIZES)}", "vllm.dtype=float32")

ERRORS = ("stream_exhausted", "old_hdk", "not_capturable", "out_of_memory", "device_fault", "unknown")


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
        for (phase, size), error, rank in itertools.product(places, (*ERRORS, "hang", "crash", "slow"), (0, 1))
    )


def ending(result: Result) -> Ending:
    """What came of a fault, read from the driver's last snapshot."""
    plan, fresh = result.plan, result.known.incarnation > 0
    if plan.runtime is RuntimeName.EAGER:
        return Ending.EAGER_FRESH if fresh else Ending.EAGER_IN_PLACE
    if len(plan.capture_sizes) < len(SIZES):
        return Ending.FEWER_FRESH if fresh else Ending.FEWER_IN_PLACE
    return Ending.RETRIED if fresh else Ending.UNHARMED


def problem(row: Row, result: Result, reference: Result) -> str:
    """What is wrong with the outcome of a row; empty when it is as expected."""
    if result.error:
        return f"did not start: {result.error}"
    if result.tokens != reference.tokens:
        return "tokens differ from eager"
    if len(set(result.replays)) != 1:
        return f"ranks replay {result.replays} graphs: a mixed group"
    if (result.replays[0] == 0) != (result.plan.runtime is RuntimeName.EAGER):
        return f"{result.replays[0]} replays in a group that says {result.plan.runtime}"
    found = ending(result)
    return "" if found is row.ending else f"expected {row.ending.value}, found {found.value}"


def reference() -> Scenario:
    """The same deployment without graphs."""
    return Scenario("eager", (*BASE, "graph.mode=NONE"), BATCHES)


def run_rows(chosen: Sequence[Row]) -> Iterable[tuple[Row, Result, str]]:
    """Run rows and say of each what is wrong with it."""
    results = run([reference(), *(row.scenario for row in chosen)])
    eager = next(iter(results))
    for row, result in zip(chosen, results, strict=True):
        yield row, result, problem(row, result, eager)


def main() -> None:
    """Run the whole matrix, or the rows that were asked for, and write the table as it grows."""
    table, pattern = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "*"
    chosen = [row for row in rows() if fnmatch(row.name, pattern)]
    lines = ["| fault | expected | result | seconds to ready |", "|---|---|---|---|"]
    failed = 0
    for row, result, wrong in run_rows(chosen):
        failed += bool(wrong)
        lines.append(f"| {row.name} | {row.ending.value} | {wrong or 'as expected'} | {result.seconds:.0f} |")
        print(lines[-1], flush=True)
        table.write_text("\n".join([*lines, ""]))
    done = len(lines) - 2
    table.write_text("\n".join([*lines, "", f"{done - failed} of {len(chosen)} rows as expected", ""]))
    sys.exit(failed > 0 or done < len(chosen))


if __name__ == "__main__":
    main()
