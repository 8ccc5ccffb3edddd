"""From a killed worker to serving again, under load.

``python -m benchmarks.recovery_serving [KILLS]`` starts ``ascend-serve serve configs/demo.yaml`` (TP 2 on emulated
NPUs) with 8 clients, half of them streaming, and kills the worker process of rank 1 (SIGKILL) once it serves, KILLS
times in one run. The time is that from the kill to the first right answer that was under way then, or was asked for
after the first error.
Every reply of the run is judged.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from tests.e2e.command import Command
from tests.e2e.conftest import COMMAND
from tests.e2e.load import Load
from tests.ports import free_port

CONFIG = Path(__file__).parents[1] / "configs" / "demo.yaml"
BUSY_SECONDS = 5.0
"""Load before each kill."""
PATIENCE_SECONDS = 180.0


def start(
    output: Path, *overrides: str, temporary: Path | None = None, environment: Mapping[str, str] | None = None
) -> Command:
    """Start the server in a process group of its own.

    Args:
        output: Where it writes to.
        overrides: More of the configuration.
        temporary: A folder for its temporary files, which is its alone.
        environment: What it finds in its environment besides.
    """
    port = free_port()
    folder = temporary or Path(tempfile.gettempdir())
    with output.open("w") as file:
        process = subprocess.Popen(
            [*COMMAND, "serve", CONFIG, f"serving.port={port}", *overrides],
            stdout=file,
            stderr=subprocess.STDOUT,
            process_group=0,
            text=True,
            env={**os.environ, "TMPDIR": str(folder), **(environment or {})},
        )
    return Command(process, output, port, folder)


def kill_and_wait(load: Load, url: str) -> float:
    """Kill the worker of rank 1 and measure the seconds until it serves again."""
    time.sleep(BUSY_SECONDS)
    report = httpx.get(f"{url}/graph/report").json()
    os.kill(report["ranks"][1]["pid"], signal.SIGKILL)
    return load.wait_until_back(time.monotonic(), PATIENCE_SECONDS)


def main() -> None:
    """Kill, measure, judge, and print."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        server = start(Path(folder) / "output", *sys.argv[2:])
        try:
            server.wait_for("curl ")
            url = f"http://127.0.0.1:{server.port}"
            with Load(url).running() as load:
                seconds = [kill_and_wait(load, url) for _ in range(kills)]
            report = httpx.get(f"{url}/graph/report").json()
        finally:
            server.end(signal.SIGINT)
    table = Table("kill to serving again", "seconds")
    table.add_row("each", ", ".join(f"{value:.1f}" for value in seconds))
    table.add_row("median", f"{statistics.median(seconds):.1f}")
    table.add_row("phases of the last start", str(report["seconds"]))
    console.print(table)
    for verdict, count in load.verdicts().items():
        console.print(f"{count:6} replies: {verdict}")
    for event in report["events"]:
        if event["kind"].startswith(("engine", "restart")):
            console.print(f"{event['time']:.1f} {event['kind']}: {event['text']}")


if __name__ == "__main__":
    main()
