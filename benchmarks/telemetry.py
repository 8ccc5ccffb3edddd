"""What telemetry costs of a step on the emulated NPU.

``python -m benchmarks.telemetry`` has two parts:

- In a step: real requests are decoded by an engine in this process; every other step is counted, as the executor of a
  deployment counts each. Medians of whole steps either way, and of the count alone.
- While somebody looks: ``ascend-serve serve configs/demo.yaml`` under load, in turn left alone and watched: one open
  page, and a scrape of all metrics every second. Steps per second, by the engine's own count.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.interleaved import prepare_environment, start_engine
from benchmarks.recovery_serving import start

_WARM_UP_STEPS = 10
_PROMPT = "The emulated NPU says"
_SCRAPE_SECONDS = 1.0
_SETTLE_SECONDS = 0.5


def main(
    *,
    batch: Annotated[list[int], typer.Option(help="Requests in the batch; may be repeated.")] = [1, 16],  # noqa: B006
    steps: Annotated[int, typer.Option(help="Measured decode steps, half of them counted.")] = 900,
    windows: Annotated[int, typer.Option(help="Pairs of windows, alone and watched; 0 leaves that part out.")] = 10,
    seconds: Annotated[float, typer.Option(help="Length of a window.")] = 4.0,
    clients: Annotated[int, typer.Option(help="Requests at once while somebody looks.")] = 8,
) -> None:
    """Measure both parts and print a table of each."""
    if windows:
        _show_watched(_watched(windows, seconds, clients))
    prepare_environment(1)
    from ascend_serve.emulated.demo_model import make_demo_model

    graphs = {"cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": sorted({1, 2, 4, 8, max(batch)})}
    with tempfile.TemporaryDirectory() as scratch:
        model = str(make_demo_model(Path(scratch) / "demo"))
        engine = start_engine(model, max(batch), steps, dtype="bfloat16", compilation_config=graphs)
        _show_steps(_in_a_step(engine, size, steps) for size in batch)


class _Counted:
    """An executor's ``execute_model``, which counts steps while it is told to.

    Args:
        execute: What runs a step.
    """

    def __init__(self, execute: Any) -> None:
        from ascend_serve.engine.histogram import StepHistogram

        self._execute = execute
        self._histogram = StepHistogram(1)
        self.is_on = False
        self.seconds: list[float] = []

    def __call__(self, step: Any, *args: Any, **options: Any) -> Any:
        if self.is_on:
            begun = time.perf_counter()
            self._histogram.count(step)
            self.seconds.append(time.perf_counter() - begun)
        return self._execute(step, *args, **options)


def _in_a_step(engine: Any, batch: int, steps: int) -> tuple[str, ...]:
    """Batch, median ms of a step without and with the count, microseconds of the count alone, its share of a step."""
    from vllm import SamplingParams

    executor = engine.model_executor
    executor.execute_model = counted = _Counted(type(executor).execute_model.__get__(executor))
    sampling = SamplingParams(temperature=0, max_tokens=steps + _WARM_UP_STEPS + 1, ignore_eos=True)
    for index in range(batch):
        engine.add_request(f"{time.monotonic_ns()}", f"{_PROMPT} {index:02d}", sampling)
    times: dict[bool, list[float]] = {True: [], False: []}
    for step in range(-1 - _WARM_UP_STEPS, steps):
        counted.is_on = step % 2 == 0
        begun = time.perf_counter()
        engine.step()
        if step >= 0:
            times[counted.is_on].append(1e3 * (time.perf_counter() - begun))
    while engine.has_unfinished_requests():
        engine.step()
    without, with_count = statistics.median(times[False]), statistics.median(times[True])
    alone = 1e6 * statistics.median(counted.seconds)
    share = alone / 1e3 / without
    return str(batch), f"{without:.3f}", f"{with_count:.3f}", f"{alone:.2f}", f"{share:.3%}"


def _show_steps(rows: Iterator[tuple[str, ...]]) -> None:
    table = Table(title="in a step, FULL_DECODE_ONLY, bfloat16, one rank; medians")
    for column in ("batch", "ms without", "ms with", "the count alone, us", "share"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _watched(windows: int, seconds: float, clients: int) -> list[tuple[float, float]]:
    """Steps per second of each pair of windows, alone and watched."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        server = start(Path(folder) / "output", "parallel.tensor_parallel_size=1", "emulated.npus=1")
        stack.callback(server.end)
        server.wait_for("curl ")
        url = f"http://127.0.0.1:{server.port}"
        stack.enter_context(_load(url, clients))
        pairs = []
        for number in range(windows):
            first = number % 2 == 0
            rates = {watched: _rate(url, seconds, watched=watched) for watched in (first, not first)}
            pairs.append((rates[False], rates[True]))
        return pairs


def _rate(url: str, seconds: float, *, watched: bool) -> float:
    with _looking(url) if watched else nullcontext():
        time.sleep(_SETTLE_SECONDS)
        before, begun = _steps(url), time.monotonic()
        time.sleep(seconds)
        return (_steps(url) - before) / (time.monotonic() - begun)


def _steps(url: str) -> int:
    counts: dict[str, int] = httpx.get(f"{url}/graph/histogram", timeout=60).json()
    return sum(counts.values())


@contextmanager
def _load(url: str, clients: int) -> Iterator[None]:
    """Clients whose requests are long and not streamed, so that they take no processor from the engine."""
    stop = threading.Event()
    body = {"model": "demo", "prompt": _PROMPT, "max_tokens": 900, "ignore_eos": True, "temperature": 0}

    def ask() -> None:
        while not stop.is_set():
            httpx.post(f"{url}/v1/completions", json=body, timeout=600).raise_for_status()

    with _threads(stop, *[ask] * clients):
        time.sleep(_SETTLE_SECONDS)
        yield


@contextmanager
def _looking(url: str) -> Iterator[None]:
    """One open page, and a Prometheus that is in a hurry."""
    stop = threading.Event()

    def page() -> None:
        while not stop.is_set():
            with httpx.stream("GET", f"{url}/graph/stream", timeout=60) as told:
                for _ in told.iter_lines():
                    if stop.is_set():
                        return

    def scrape() -> None:
        while not stop.wait(_SCRAPE_SECONDS):
            httpx.get(f"{url}/metrics", timeout=60).raise_for_status()

    with _threads(stop, page, scrape):
        yield


@contextmanager
def _threads(stop: threading.Event, *tasks: Any) -> Iterator[None]:
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _show_watched(pairs: list[tuple[float, float]]) -> None:
    table = Table(title="while somebody looks: steps per second; medians, and of the ratio within a pair")
    for column in ("alone", "watched", "lost, median", "lowest", "highest"):
        table.add_column(column, justify="right")
    alone, watched = (statistics.median(column) for column in zip(*pairs, strict=True))
    lost = sorted(1 - seen / quiet for quiet, seen in pairs)
    shares = (statistics.median(lost), lost[0], lost[-1])
    table.add_row(f"{alone:.0f}", f"{watched:.0f}", *(f"{share:.1%}" for share in shares))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
