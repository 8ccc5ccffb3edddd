"""What the path in front of the engines costs, and how it grows: replicas that answer without a model.

``python -m benchmarks.ingress_scale [--replicas 1,4,16] [--clients 0,1,64,512] [--step-ms 50] [--ingress haproxy]``

Each client asks for streams of 64 tokens, which come one with each step of a clock, all requests of a replica together
as from an engine. Row 0 of the replicas is the application by itself, without Ray Serve: what is added is the
difference.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ascend_serve.cluster.processes import adopt_orphans
from ascend_serve.config.schema import Ingress
from benchmarks.command_line import console, numbers
from benchmarks.serving.launch import StartFailed, running
from benchmarks.serving.processes import spent, usage
from benchmarks.serving.systems import BENCH, ROOT, Start
from tests.ports import free_port

TOKENS = 64
WARM_UP_SECONDS = 6.0


@dataclass(frozen=True)
class Row:
    """One load on so many replicas.

    Attributes:
        replicas: 0 for the application without Ray Serve.
        clients: Requests under way.
        client: What the clients have measured; see `benchmarks.ingress_scale.client.run`.
        processor_seconds: Of all other processes, by role.
        load_average: Of the machine over the last minute.
    """

    replicas: int
    clients: int
    client: dict[str, float]
    processor_seconds: dict[str, float]
    load_average: float

    @property
    def tokens_per_second(self) -> float:
        """What came."""
        return self.client["tokens"] / self.client["seconds"]

    @property
    def cores(self) -> dict[str, float]:
        """How many cores each role kept busy."""
        return {role: seconds / self.client["seconds"] for role, seconds in self.processor_seconds.items()}

    @property
    def tokens_per_core_second(self) -> float:
        """Tokens for a second of processor time of the path, clients left out."""
        return self.client["tokens"] / sum(self.processor_seconds.values())


def measure(port: int, replicas: int, clients: int, seconds: float) -> Row:
    """Put a load on what listens at ``port``."""
    arguments = [str(port), str(clients), str(TOKENS), str(WARM_UP_SECONDS), str(seconds)]
    command = [sys.executable, "-m", "benchmarks.ingress_scale.client", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        if process.stdout.readline().strip() != "begin":
            raise StartFailed("the clients did not begin")
        before = usage(os.getpid())
        result = json.loads(process.stdout.readline())
        after = usage(os.getpid())
    by_role = spent(before, after)
    by_role.pop("clients", None)
    return Row(replicas, clients, result, by_role, os.getloadavg()[0])


def rows(replicas: int, clients: list[int], ingress: Ingress, step_ms: float, seconds: float) -> Iterator[Row]:
    """Start so many replicas and measure each load on them."""
    port = free_port()
    arguments = (str(port), str(replicas), str(step_ms / 1e3), ingress.value)
    command = (sys.executable, "-m", "benchmarks.ingress_scale.server", *arguments)
    output = BENCH / "logs" / f"ingress-{replicas}.log"
    output.parent.mkdir(parents=True, exist_ok=True)
    with running(Start(command, {"PYTHONPATH": str(ROOT)}), port, output):
        for count in clients:
            with console.status(f"{replicas} replicas, {count} clients"):
                yield measure(port, replicas, count, seconds)


def show(found: list[Row], step_ms: float, ingress: Ingress) -> None:
    """Print what was measured: loads, then processor time for each token and each second."""
    title = f"fixed streams, {TOKENS} tokens, a step of {step_ms:g} ms, ingress {ingress.value}"
    loads = Table(title=title, title_justify="left")
    times = ("TTFT p50 ms", "p99", "TPOT p50 ms", "p99")
    for heading in ("replicas", "clients", "tokens/s", "of asked", "tokens per core s", *times, "failed", "load"):
        loads.add_column(heading, justify="right")
    for row in found:
        if row.clients:
            loads.add_row(str(row.replicas), str(row.clients), *_measured(row, step_ms))
    roles = sorted({role for row in found for role in row.processor_seconds})
    costs = Table(title="processor time: us per token; without clients, % of a core", title_justify="left")
    for heading in ("replicas", "clients", *roles, "clients"):
        costs.add_column(heading, justify="right")
    for row in found:
        own = [f"{row.client['processor_seconds'] / row.client['tokens'] * 1e6:.0f}"] if row.clients else []
        costs.add_row(str(row.replicas), str(row.clients), *(_cost(row, role) for role in roles), *own)
    console.print(loads, costs)


def _measured(row: Row, step_ms: float) -> Iterator[str]:
    yield f"{row.tokens_per_second:.0f}"
    yield f"{row.tokens_per_second / (row.clients * 1e3 / step_ms):.0%}"
    yield f"{row.tokens_per_core_second:.0f}"
    yield from (f"{row.client[name]:.2f}" for name in ("first_p50_ms", "first_p99_ms", "next_p50_ms", "next_p99_ms"))
    yield f"{row.client['failed']:.0f}"
    yield f"{row.load_average:.1f}"


def _cost(row: Row, role: str) -> str:
    if not row.clients:
        return f"{row.cores.get(role, 0):.2%}"
    return f"{row.processor_seconds.get(role, 0) / row.client['tokens'] * 1e6:.0f}"


def main(
    *,
    replicas: Annotated[
        str, typer.Option(help="Numbers of replicas; 0 is the application without Ray Serve.")
    ] = "0,1,4,16",
    clients: Annotated[str, typer.Option(help="Numbers of clients; 0 is the path at rest.")] = "0,1,64,512",
    step_ms: Annotated[float, typer.Option(min=1, help="Milliseconds between two tokens of a request.")] = 50.0,
    ingress: Annotated[Ingress, typer.Option(help="What stands before the replicas.")] = Ingress.HAPROXY,
    seconds: Annotated[float, typer.Option(min=1, help="How long each load is measured.")] = 10.0,
    output: Annotated[Path, typer.Option(help="JSON file for the results.")] = BENCH / "ingress.json",
) -> None:
    """Measure each load on each number of replicas."""
    adopt_orphans()
    found: list[Row] = []
    for count in numbers(replicas, int):
        try:
            found.extend(rows(count, numbers(clients, int), ingress, step_ms, seconds))
        except StartFailed as error:
            console.print(f"{count} replicas: FAILED: {error}", markup=False)
    show(found, step_ms, ingress)
    output.write_text(json.dumps([vars(row) for row in found], indent=1))
    console.print(f"results: {output}", markup=False)


if __name__ == "__main__":
    typer.run(main)
