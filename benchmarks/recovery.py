"""From a fault to ready again, against starting anew: in place, and with fresh workers.

``python -m benchmarks.recovery [RUNS]`` runs the demo at TP 2 on emulated NPUs, in turn: an eager engine, one with too
few streams on rank 1 (refused, in place), one with an unknown error on rank 1 in the middle of a capture (fresh
workers), and the whole application, eager, as ``ascend-serve serve`` starts it. The time from fault to ready is that
from the failure event to the seal. The engines run on one local Ray cluster, so their start is without the cluster, the
server and the imports of the replica that a new start of the application pays for.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
from rich.console import Console
from rich.table import Table

from ascend_serve.events import EventKind
from tests.integration.engines import ROOT, Result, Scenario, run
from tests.ports import free_port

IN_PLACE = Scenario("refused, in place", ("emulated.stream_quota=[2048, 9]",), batches=(1,))
FRESH = Scenario(
    "failed in a capture, fresh workers",
    ("emulated.faults=[{rank: 1, phase: capture, size: 4, error: unknown}]",),
    batches=(1,),
)
ENGINE = Scenario("new start of the engine, eager", ("graph.mode=NONE",), batches=(1,))
APPLICATION = "new start of the application, eager"


def seconds_to_ready(result: Result) -> float:
    """Seconds from the first failure to the seal; from the start of the engine where nothing failed."""
    times = {event.kind: event.time for event in reversed(result.known.events)}
    failed = times.get(EventKind.FAILED)
    return result.seconds if failed is None else times[EventKind.SEALED] - failed


def application_start() -> float:
    """Seconds from the command to the first healthy answer of its port."""
    port = free_port()
    command = [sys.executable, "-m", "ascend_serve.cli.main", "serve", "configs/demo.yaml"]
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    started = time.monotonic()
    process = subprocess.Popen(
        [*command, "graph.mode=NONE", f"serving.port={port}"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None and not _is_healthy(port):
            time.sleep(0.1)
        if process.poll() is not None:
            raise RuntimeError(f"`{' '.join(command)}` ended with code {process.returncode}")
        return time.monotonic() - started
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Run all cases in turn, and print medians and ratios."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    seconds: dict[str, list[float]] = {}
    for _ in range(runs):
        for name, value in _round():
            seconds.setdefault(name, []).append(value)
    _print({name: statistics.median(values) for name, values in seconds.items()}, runs)


def _round() -> Iterator[tuple[str, float]]:
    for result in run([ENGINE, IN_PLACE, FRESH]):
        yield result.name, seconds_to_ready(result)
    yield APPLICATION, application_start()


def _is_healthy(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=1).is_success
    except httpx.HTTPError:
        return False


def _print(medians: dict[str, float], runs: int) -> None:
    references = (ENGINE.name, APPLICATION)
    table = Table("case", "seconds, median", *(f"times faster than\na {name}" for name in references))
    for name, seconds in medians.items():
        table.add_row(name, f"{seconds:.2f}", *(f"{medians[reference] / seconds:.1f}" for reference in references))
    Console().print(table)
    Console().print(f"{runs} runs each, in turn")


if __name__ == "__main__":
    main()
