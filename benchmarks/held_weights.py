"""What a replacement saves that copies its weights from the memory of the host.

``python -m benchmarks.held_weights [--layers N] [--kills N] [key=value ...]`` makes a model of random weights (20
layers are 1.5 GB) and serves it on two emulated NPUs. Once the spares wait, the worker of rank 1 is killed, N times
for each way to load: from the memory of the host, from files that the kernel still has in its page cache, and from
files that it has not. Printed are the seconds of each rank for its weights, by its own log, and those from the loss
until the replica serves again; and what the first start took with and without holding them.
"""

from __future__ import annotations

import os
import re
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import torch
import typer
from rich.table import Table

from ascend_serve.emulated.demo_model import make_demo_model
from benchmarks.command_line import console
from benchmarks.recovery_serving import PATIENCE_SECONDS, RANKS, served, wait_for_spares
from benchmarks.victims import Fault, hit
from tests.e2e.command import Command

HIDDEN = 2048
OVERRIDES = ("vllm.dtype=bfloat16", "graph.capture_sizes=[1]", "vllm.max_num_seqs=2")
WAYS = ("host", "disk", "disk, not in the page cache")

_LOADED = re.compile(r"(?:Loading weights took|Copied .* of this host in) ([0-9.]+) s")
_LOGS = re.compile(r"^logs: (\S+)$", re.MULTILINE)
_HELD = re.compile(r"Hold ([0-9.]+) GiB of weights in the memory of this host, copied in ([0-9.]+) s")


@dataclass(frozen=True)
class Times:
    """Seconds of one way to load.

    Attributes:
        start: Of the engine, at the first start.
        weights: Of each rank for its weights, in each replacement.
        back: From each loss until the replica served again.
    """

    start: float
    weights: Sequence[float]
    back: Sequence[float]


def main(
    overrides: Annotated[list[str] | None, typer.Argument(help="More of the configuration.")] = None,
    layers: Annotated[int, typer.Option(help="Of the model; each is 75 MB.")] = 20,
    kills: Annotated[int, typer.Option(help="For each way to load.")] = 3,
    folder: Annotated[Path | None, typer.Option(help="Where the model is made; it stays there.")] = None,
) -> None:
    """Kill, measure, print."""
    with tempfile.TemporaryDirectory() as scratch:
        model = make_demo_model(
            folder or Path(scratch) / "model", hidden_size=HIDDEN, layers=layers, dtype=torch.bfloat16
        )
        found = dict(_measured(model, kills, overrides or []))
    table = Table("weights from", "first start of the engine", "weights, each rank", "back after")
    for way, times in found.items():
        table.add_row(way, f"{times.start:.1f}", _median(times.weights), _median(times.back))
    console.print(table)


def _measured(model: Path, kills: int, overrides: Sequence[str]) -> Iterator[tuple[str, Times]]:
    for way in WAYS:
        source = way.partition(",")[0]
        given = [f"model.path={model}", f"serving.recovery.weights={source}", *OVERRIDES, *overrides]
        with served(*given) as command:
            start = _report(command)["seconds"]["engine"]
            console.print(way, "held at the start:", _HELD.findall(_log(command)), markup=False)
            weights: list[float] = []
            for _ in range(kills):
                wait_for_spares(command, RANKS)
                if source != way:
                    _drop_from_page_cache(model)
                weights += _replaced(command)
            yield way, Times(start, weights, [event["seconds"] for event in _restarts(command)])


def _replaced(command: Command) -> list[float]:
    """Kill a worker, and tell the seconds of each rank that replaces it and its peer for its weights."""
    before = len(_restarts(command))
    hit(Fault.WORKER, command, rank=1)
    until = time.monotonic() + PATIENCE_SECONDS
    while len(_restarts(command)) == before and time.monotonic() < until:
        time.sleep(0.5)
    console.print(_restarts(command)[-1]["text"], markup=False)
    return [float(seconds) for seconds in _LOADED.findall(_log(command))]


def _drop_from_page_cache(model: Path) -> None:
    for file in model.glob("*.safetensors"):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def _log(command: Command) -> str:
    """The logs of the ranks that serve now, found by their processes: other servers may be on this machine."""
    told = _LOGS.search(command.text())
    pids = [rank["pid"] for rank in _report(command)["ranks"]]
    files = [file for pid in pids for file in sorted(Path(told[1] if told else "").glob(f"worker-*-{pid}.*"))]
    return "\n".join(file.read_text(encoding="utf-8", errors="replace") for file in files)


def _report(command: Command) -> dict[str, Any]:
    report: dict[str, Any] = httpx.get(f"{command.url}/graph/report", timeout=PATIENCE_SECONDS).json()
    return report


def _restarts(command: Command) -> list[dict[str, Any]]:
    return [event for event in _report(command)["events"] if event["kind"] == "engine_restarted"]


def _median(seconds: Sequence[float]) -> str:
    if not seconds:
        return "unknown"
    return f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


if __name__ == "__main__":
    typer.run(main)
