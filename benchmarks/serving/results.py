"""What a run of the benchmark has measured: the JSON file."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from pydantic import BaseModel

from ascend_serve.bench.vllm_bench import Measured


class LoadResult(BaseModel):
    """A load on a system that had started.

    Attributes:
        measured: By vLLM's load generator.
        processor_ms: Processor time for each output token, in milliseconds, by role.
        client_processor_ms: That of the load generator, which shares the machine.
        load_average: Of the machine over the last minute, at the end of the load.
        steal_percent: Share of all processors' time that other guests of the host took meanwhile.
        busy_percent: Share that was busy, with whatever.
    """

    measured: Measured
    processor_ms: dict[str, float]
    client_processor_ms: float
    load_average: float
    steal_percent: float
    busy_percent: float

    @property
    def processor_total_ms(self) -> float:
        """Processor time for each output token of all processes of the system."""
        return sum(self.processor_ms.values())


class StartResult(BaseModel):
    """A start of a system in one round.

    Attributes:
        round: Which round, from 0.
        system: Its name.
        device_time: Milliseconds that a step of its emulated device takes at least; 0 for a device of no time.
        start_seconds: From the command to the first token.
        error: Why it did not start, or what ended its loads; empty otherwise.
        loads: In the order of the run.
        load_average: Of the machine over the last minute, before the start.
    """

    round: int
    system: str
    device_time: float
    start_seconds: float | None = None
    error: str = ""
    loads: list[LoadResult] = []
    load_average: float


class Results(BaseModel):
    """A run.

    Attributes:
        machine: Facts about where it ran.
        options: What it was asked for.
        starts: In the order of the run.
    """

    machine: dict[str, str]
    options: dict[str, str]
    starts: list[StartResult] = []

    def of(self, system: str, device_time: float) -> Iterator[StartResult]:
        """The starts of a system with a device time."""
        return (start for start in self.starts if (start.system, start.device_time) == (system, device_time))

    def measured_systems(self) -> list[tuple[str, float]]:
        """The systems and device times of the run, in its order."""
        return list(dict.fromkeys((start.system, start.device_time) for start in self.starts))

    def clients(self, system: str, device_time: float) -> list[int]:
        """The loads that a system had, ascending."""
        return sorted({load.measured.clients for start in self.of(system, device_time) for load in start.loads})

    def loads(self, system: str, device_time: float, clients: int) -> list[LoadResult]:
        """What a load on a system came to, in each round."""
        loads = (load for start in self.of(system, device_time) for load in start.loads)
        return [load for load in loads if load.measured.clients == clients]

    def roles(self) -> list[str]:
        """All roles of processes that were seen."""
        return sorted({role for start in self.starts for load in start.loads for role in load.processor_ms})

    def values(self, system: str, device_time: float, metric: str, clients: int = 0) -> dict[int, float]:
        """A metric by round, where it was measured; loads with failed requests do not count.

        Args:
            system: Its name.
            device_time: In milliseconds.
            metric: ``start_seconds``, ``processor_total_ms``, or an attribute of `Measured`.
            clients: The load; of no meaning for ``start_seconds``.
        """
        found: dict[int, float] = {}
        for start in self.of(system, device_time):
            if metric == "start_seconds":
                values = [start.start_seconds] if start.start_seconds is not None else []
            else:
                values = [_value(load, metric) for load in _clean(start.loads, clients)]
            if values:
                found[start.round] = statistics.median(values)
        return found


def system_title(system: str, device_time: float) -> str:
    """A system with its device time."""
    return f"{system} {device_time:g} ms" if device_time else system


def _clean(loads: Sequence[LoadResult], clients: int) -> Iterator[LoadResult]:
    return (load for load in loads if load.measured.clients == clients and not load.measured.failed)


def _value(load: LoadResult, metric: str) -> float:
    return load.processor_total_ms if metric == "processor_total_ms" else float(getattr(load.measured, metric))
