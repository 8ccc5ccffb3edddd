"""Padding waste of our capture sizes against an even subsample of vLLM's default list, at equal number of graphs.

Sizes are chosen on one generated trace and measured on another of the same load, so that nothing is fitted to what is
measured. Needs neither a device nor vLLM:

    python benchmarks/padding_waste.py [--json]
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from ascend_serve.graph.default_lists import even_subsample, vllm_sizes
from ascend_serve.graph.sizes import candidate_sizes, padding_waste, select_sizes
from ascend_serve.graph.trace import TracedRequest
from ascend_serve.graph.workload import Workload, simulate

MAX_NUM_SEQS = 256
STEP_SECONDS = 0.03
MEAN_OUTPUT_TOKENS = 256
SECONDS = 7200.0
COUNTS = (8, 12, 19, 35)
"""Numbers of sizes: 12 is what 64 layers with TP 8 leave room for in FULL_AND_PIECEWISE, 35 is all of vLLM's list."""

CHOSEN_ON, MEASURED_ON = 1, 2
"""Seeds of the two traces."""


def rate(running: float) -> float:
    """Requests per second that keep ``running`` requests in decode on average."""
    return running / (MEAN_OUTPUT_TOKENS * STEP_SECONDS)


def steady(now: float) -> float:
    """A deployment at work: about 96 requests at all times."""
    return rate(96)


def low(now: float) -> float:
    """Few users: about 6 requests."""
    return rate(6)


def bursty(now: float) -> float:
    """About 16 requests, and every two minutes a burst of 10 seconds that asks for twice what fits."""
    return rate(2 * MAX_NUM_SEQS) if now % 120 < 10 else rate(16)


LOADS: Mapping[str, Callable[[float], float]] = {"steady": steady, "bursty": bursty, "low": low}


class Row(BaseModel):
    """Padding waste for one load and number of sizes.

    Attributes:
        vllm: Even subsample of vLLM's list.
        ours: Chosen on another trace of the same load.
        ours_in_sample: Chosen on the trace it is measured on: the bound.
        ours_without_load: Chosen without any knowledge of the load.
    """

    load: str
    sizes: int
    vllm: float
    ours: float
    ours_in_sample: float
    ours_without_load: float


class NeededSizes(BaseModel):
    """Sizes of ours, chosen on another trace, that waste no more than vLLM's full default list."""

    load: str
    vllm: int
    ours: int


def trace(load: Callable[[float], float], seed: int) -> Iterator[TracedRequest]:
    """Poisson arrivals at the load's rate, lengths of exponential distribution."""
    rng = random.Random(seed)
    highest = max(load(float(second)) for second in range(int(SECONDS)))
    now = 0.0
    while (now := now + rng.expovariate(highest)) < SECONDS:
        if rng.random() < load(now) / highest:
            yield TracedRequest(now, rng.randrange(16, 512), 1 + int(rng.expovariate(1 / MEAN_OUTPUT_TOKENS)))


def counted(load: Callable[[float], float], seed: int) -> dict[int, float]:
    """Steps per batch size."""
    return {n: float(count) for n, count in simulate(trace(load, seed), MAX_NUM_SEQS, STEP_SECONDS).items()}


def rows() -> Iterator[Row]:
    """All loads, at all numbers of sizes."""
    candidates, default = candidate_sizes(MAX_NUM_SEQS), vllm_sizes(MAX_NUM_SEQS)
    for name, load in LOADS.items():
        chosen_on, measured_on = counted(load, CHOSEN_ON), counted(load, MEASURED_ON)
        weights = Workload(chosen_on, name).smoothed(candidates)
        for count in COUNTS:
            yield Row(
                load=name,
                sizes=count,
                vllm=padding_waste(even_subsample(default, count), measured_on),
                ours=padding_waste(select_sizes(candidates, count, weights), measured_on),
                ours_in_sample=padding_waste(select_sizes(candidates, count, measured_on), measured_on),
                ours_without_load=padding_waste(select_sizes(candidates, count), measured_on),
            )


def needed_sizes() -> Iterator[NeededSizes]:
    """How few sizes do what vLLM's whole list does."""
    candidates, default = candidate_sizes(MAX_NUM_SEQS), vllm_sizes(MAX_NUM_SEQS)
    for name, load in LOADS.items():
        measured_on = counted(load, MEASURED_ON)
        weights = Workload(counted(load, CHOSEN_ON), name).smoothed(candidates)
        target = padding_waste(default, measured_on)
        enough = (
            count
            for count in range(1, MAX_NUM_SEQS + 1)
            if padding_waste(select_sizes(candidates, count, weights), measured_on) <= target
        )
        yield NeededSizes(load=name, vllm=len(default), ours=next(enough))


def selection_seconds(repetitions: int = 5) -> float:
    """Best time to choose 51 of 512 sizes."""
    candidates, best = candidate_sizes(512), float("inf")
    for _ in range(repetitions):
        start = time.perf_counter()
        select_sizes(candidates, 51)
        best = min(best, time.perf_counter() - start)
    return best


def main(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Measure and print."""
    measured, needed, seconds = list(rows()), list(needed_sizes()), selection_seconds()
    console = Console()
    if as_json:
        waste, sizes = ([entry.model_dump() for entry in entries] for entries in (measured, needed))
        console.print_json(data={"waste": waste, "needed": sizes, "selection_seconds": seconds})
        return
    table = Table("load", "sizes", "vLLM subsample", "ours", "times less", "in sample", "load unknown")
    for row in measured:
        times = f"{row.vllm / row.ours:.1f}x" if row.ours else "no waste"
        figures = (f"{waste:.2%}" for waste in (row.ours_in_sample, row.ours_without_load))
        table.add_row(row.load, str(row.sizes), f"{row.vllm:.2%}", f"{row.ours:.2%}", times, *figures)
    console.print(table)
    for entry in needed:
        console.print(f"{entry.load}: {entry.ours} sizes waste no more than the {entry.vllm} of vLLM's default list")
    console.print(f"51 of 512 sizes are chosen in {seconds:.3f} s")


if __name__ == "__main__":
    typer.run(main)
