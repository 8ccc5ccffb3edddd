"""Faults on real engines as rows of a table: each is a deployment of two ranks, and what must come of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Protocol, TypeVar

from ascend_serve.graph.modes import RuntimeName
from tests.integration.engines import Result, Scenario, run
from tests.unit.capture.two_faults import SIZES

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

# A group that lost a size pads to a larger one, and the kernels of a CPU sum differently for other numbers of rows
# (vLLM 0.32 has small ones below 5): what that changes in the last bit shows in bfloat16, not in tokens of float32.
BASE = (f"graph.capture_sizes={list(SIZES)}", "vllm.dtype=float32")


class FaultRow(Protocol):
    """A row: what strikes, and what must come of it."""

    @property
    def name(self) -> str:
        """A readable id."""

    @property
    def scenario(self) -> Scenario:
        """The deployment with what strikes it."""

    @property
    def expectation(self) -> str:
        """What must come of it, in words."""

    def problem(self, result: Result, eager: Result) -> str:
        """What is wrong with the outcome, beside that of an eager start; empty when it is as expected."""


R = TypeVar("R", bound=FaultRow)


def problem_of_what_is_served(result: Result, eager: Result) -> str:
    """What is wrong with a group that serves, whatever its plan: other tokens than eager's, or ranks that differ."""
    if result.tokens != eager.tokens:
        return "tokens differ from eager"
    if len(set(result.replays)) != 1:
        return f"ranks replay {result.replays} graphs: a mixed group"
    if (result.replays[0] == 0) != (result.plan.runtime is RuntimeName.EAGER):
        return f"{result.replays[0]} replays in a group that says {result.plan.runtime}"
    return ""


def run_rows(chosen: Sequence[R]) -> Iterator[tuple[R, Result, str]]:
    """Run rows, after the same deployment without graphs, and say of each what is wrong with it."""
    results = run([Scenario("eager", (*BASE, "graph.mode=NONE"), BATCHES), *(row.scenario for row in chosen)])
    eager = next(iter(results))
    for row, result in zip(chosen, results, strict=True):
        yield row, result, row.problem(result, eager)


def main(rows: Sequence[FaultRow]) -> None:
    """Run all rows, or those that the command line asks for, and write the table as it grows."""
    table, pattern = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "*"
    chosen = [row for row in rows if fnmatch(row.name, pattern)]
    lines = ["| fault | expected | result | seconds to ready |", "|---|---|---|---|"]
    failed = 0
    for row, result, wrong in run_rows(chosen):
        failed += bool(wrong)
        lines.append(f"| {row.name} | {row.expectation} | {wrong or 'as expected'} | {result.seconds:.0f} |")
        print(lines[-1], flush=True)
        table.write_text("\n".join([*lines, ""]))
    done = len(lines) - 2
    table.write_text("\n".join([*lines, "", f"{done - failed} of {len(chosen)} rows as expected", ""]))
    sys.exit(failed > 0 or done < len(chosen))
