"""From a fault to ready again, against starting anew: in place, and with fresh workers.

``python -m benchmarks.recovery [RUNS]`` starts the demo at TP 2 on emulated NPUs, in one process and on one local Ray
cluster: eager, with too few streams on rank 1 (refused, in place), and with an unknown error on rank 1 in the middle of
a capture (fresh workers). The time from the fault to ready is that from the failure event to the seal. Starting anew is
the start of the eager engine in the same run; a new start of the application would pay for cluster, imports and server
on top.
"""

from __future__ import annotations

import statistics
import sys

from rich.console import Console
from rich.table import Table

from tests.integration.engines import Result, Scenario, run

EAGER = Scenario("new start, eager", ("graph.mode=NONE",), batches=(1,))
IN_PLACE = Scenario("refused, in place", ("emulated.stream_quota=[2048, 9]",), batches=(1,))
FRESH = Scenario(
    "failed in a capture, fresh workers",
    ("emulated.faults=[{rank: 1, phase: capture, size: 4, error: unknown}]",),
    batches=(1,),
)


def seconds_to_ready(result: Result) -> float:
    """Seconds from the first failure to the seal; from the start of the engine where nothing failed."""
    times = {event["kind"]: event["time"] for event in reversed(result.snapshot["events"])}
    return times["sealed"] - times["failed"] if "failed" in times else result.seconds


def main() -> None:
    """Run all cases in turn, and print medians and ratios."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    scenarios = [EAGER, IN_PLACE, FRESH]
    results = list(run(scenarios * runs))
    medians = {
        scenario.name: statistics.median(seconds_to_ready(r) for r in results if r.name == scenario.name)
        for scenario in scenarios
    }
    table = Table("case", "seconds, median", "times faster than a new start", title=f"{runs} runs each, in turn")
    for name, seconds in medians.items():
        table.add_row(name, f"{seconds:.2f}", f"{medians[EAGER.name] / seconds:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
