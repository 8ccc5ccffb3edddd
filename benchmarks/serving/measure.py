"""One start of one system under all loads, with the processor time of each of its processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ascend_serve.bench.server import ServedModel, Server
from ascend_serve.bench.vllm_bench import Load, measure
from ascend_serve.emulated.built_in_model import provide
from benchmarks.serving.launch import StartFailed, running
from benchmarks.serving.processes import machine_time, spent, usage
from benchmarks.serving.results import LoadResult, StartResult, system_title
from benchmarks.serving.systems import MODEL, System, Unavailable
from tests.ports import free_port

Follow = Callable[[str], None]
"""Is told in one line what happens."""

MIN_REQUESTS = 16
REQUESTS_PER_CLIENT = 6


@dataclass(frozen=True)
class Shape:
    """What each client asks for.

    Attributes:
        input_tokens: Of each prompt.
        output_tokens: Of each answer.
    """

    input_tokens: int = 32
    output_tokens: int = 64

    def load(self, clients: int, seed: int) -> Load:
        """The load of so many clients."""
        requests = max(MIN_REQUESTS, REQUESTS_PER_CLIENT * clients)
        return Load(clients, self.input_tokens, self.output_tokens, requests, seed=seed)


@dataclass(frozen=True)
class Trial:
    """A system in one round.

    Attributes:
        system: Which.
        device_time: Milliseconds that a step of its emulated device takes.
        number: Which round, from 0.
        logs: Folder for its output.
    """

    system: System
    device_time: float
    number: int
    logs: Path

    @property
    def title(self) -> str:
        """The system and its device time."""
        return system_title(self.system.name, self.device_time)

    @property
    def output(self) -> Path:
        """Where its output goes."""
        return self.logs / f"{self.number}-{self.system.name}-{self.device_time:g}ms.log"


def measure_start(trial: Trial, clients: Sequence[int], shape: Shape, follow: Follow) -> StartResult:
    """Start a system, put the loads on it, and end it; whatever goes wrong is told in the result."""
    result = StartResult(
        round=trial.number,
        system=trial.system.name,
        device_time=trial.device_time,
        load_average=os.getloadavg()[0],
    )
    port = free_port()
    try:
        follow("starts")
        with running(trial.system.start(port, trial.device_time), port, trial.output) as run:
            result.start_seconds = run.start_seconds
            for count in trial.system.clients or clients:
                follow(f"{count} clients")
                result.loads.append(measure_load(run.url, shape.load(count, seed=trial.number * 1000 + count)))
    except (StartFailed, Unavailable) as error:
        result.error = str(error)
    except Exception as error:  # A system that dies under load must not end the run.
        result.error = f"{type(error).__name__}: {error}"
    return result


def measure_load(url: str, load: Load) -> LoadResult:
    """Warm up, then measure a load on what answers at ``url``."""
    server, model = Server(url), ServedModel(MODEL, str(provide()))
    measure(
        server, model, Load(load.clients, load.input_tokens, load.output_tokens, load.clients, seed=load.seed + 500)
    )
    before, machine_before, own_before = usage(os.getpid()), machine_time(), time.process_time()
    measured = measure(server, model, load)
    own = time.process_time() - own_before
    after, machine_after = usage(os.getpid()), machine_time()
    total = machine_after.total - machine_before.total
    return LoadResult(
        measured=measured,
        processor_ms={name: seconds / measured.tokens * 1e3 for name, seconds in spent(before, after).items()}
        if measured.tokens
        else {},
        client_processor_ms=own / max(measured.tokens, 1) * 1e3,
        load_average=os.getloadavg()[0],
        steal_percent=100 * (machine_after.steal - machine_before.steal) / total,
        busy_percent=100 * (machine_after.busy - machine_before.busy) / total,
    )
