"""What telemetry costs on the emulated NPU: in each step, now and then, and while somebody looks.

``python -m benchmarks.telemetry`` takes less than three minutes and has three parts:

- In a step: real requests are decoded by one engine in this process. Blocks of steps run in turn with and without what
  a deployment does for its telemetry in each step, and of each pair of blocks the ratio is taken. vLLM's own metrics,
  which are on meanwhile, are measured in the same way.
- Now and then: how long it takes to tell Ray all metrics, which a replica does every ten seconds.
- While somebody looks: ``ascend-serve serve configs/demo.yaml`` under load, in turn left alone and watched: one open
  page, and a scrape of all metrics every second. Steps per second, by the engine's own count.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.interleaved import prepare_environment, start_engine
from benchmarks.recovery_serving import start

_BLOCK_STEPS = 5
_WARM_UP_STEPS = 10
_PROMPT = "The emulated NPU says"
_SCRAPE_SECONDS = 1.0
_SETTLE_SECONDS = 0.5


def main(
    *,
    batch: Annotated[list[int], typer.Option(help="Requests in the batch; may be repeated.")] = [1, 16],  # noqa: B006
    pairs: Annotated[int, typer.Option(help="Pairs of blocks of steps, with and without, of one batch.")] = 190,
    batches: Annotated[int, typer.Option(help="Batches, one after the other.")] = 3,
    windows: Annotated[int, typer.Option(help="Pairs of windows, alone and watched; 0 leaves that part out.")] = 12,
    seconds: Annotated[float, typer.Option(help="Length of a window.")] = 2.0,
    clients: Annotated[int, typer.Option(help="Requests at once while somebody looks.")] = 8,
) -> None:
    """Measure all parts and print a table of each."""
    if windows:
        _show_watched(_watched(windows, seconds, clients))
    prepare_environment(1)
    from ascend_serve.emulated.demo_model import make_demo_model

    graphs = {"cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": sorted({1, 2, 4, 8, max(batch)})}
    steps = 2 * pairs * _BLOCK_STEPS
    with tempfile.TemporaryDirectory() as scratch:
        model = str(make_demo_model(Path(scratch) / "demo"))
        engine = start_engine(
            model, max(batch), steps, dtype="bfloat16", compilation_config=graphs, disable_log_stats=False
        )
        for title, switch in (("this project", _ours(engine)), ("vLLM's own metrics", _vllms(engine))):
            found: dict[int, list[tuple[float, float]]] = {size: [] for size in batch}
            for size in batch * batches:
                found[size] += _in_a_step(engine, size, pairs, switch)
            _show_steps(title, found)
    _show_telling(*asyncio.run(_telling_ray()))


Switch = Callable[[bool], None]
"""Switches telemetry on or off."""


def _ours(engine: Any) -> Switch:
    """What a deployment does in each step: it counts the step, and leaves out what the replica asks itself."""
    from ascend_serve.engine.client_stats import leave_out
    from ascend_serve.engine.histogram import StepHistogram

    executor, processor, histogram = engine.model_executor, engine.output_processor, StepHistogram(1)
    execute, process = executor.execute_model, processor.process_outputs

    def counted(step: Any, *args: Any, **options: Any) -> Any:
        histogram.count(step)
        return execute(step, *args, **options)

    leave_out(processor, lambda name: False)
    left_out = processor.process_outputs

    def switch(is_on: bool) -> None:
        executor.execute_model = counted if is_on else execute
        processor.process_outputs = left_out if is_on else process

    switch(False)
    return switch


def _vllms(engine: Any) -> Switch:
    manager = engine.logger_manager

    def switch(is_on: bool) -> None:
        engine.log_stats, engine.logger_manager = (True, manager) if is_on else (False, None)

    return switch


def _in_a_step(engine: Any, batch: int, pairs: int, switch: Switch) -> list[tuple[float, float]]:
    """Milliseconds of a step without and with telemetry, of each pair of blocks."""
    from vllm import SamplingParams

    steps = 2 * pairs * _BLOCK_STEPS
    sampling = SamplingParams(temperature=0, max_tokens=steps + _WARM_UP_STEPS + 1, ignore_eos=True)
    for index in range(batch):
        engine.add_request(f"{time.monotonic_ns()}", f"{_PROMPT} {index:02d}", sampling)
    for _ in range(1 + _WARM_UP_STEPS):
        engine.step()
    found = []
    for number in range(pairs):
        first = number % 2 == 0
        times = {is_on: _block(engine, switch, is_on) for is_on in (first, not first)}
        found.append((times[False], times[True]))
    switch(True)
    while engine.has_unfinished_requests():
        engine.step()
    return found


def _block(engine: Any, switch: Switch, is_on: bool) -> float:
    switch(is_on)
    begun = time.perf_counter()
    for _ in range(_BLOCK_STEPS):
        engine.step()
    return 1e3 * (time.perf_counter() - begun) / _BLOCK_STEPS


def growth(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """How much more the second of a pair is than the first: the median, and the bounds of its 95 % interval.

    The bounds are ranks of what was found, half of 1.96 standard deviations of a coin's throws from the middle, so that
    neither outliers nor their distribution matter.
    """
    more = sorted(second / first - 1 for first, second in pairs)
    reach = round(0.98 * len(more) ** 0.5)
    middle = len(more) // 2
    return statistics.median(more), more[max(middle - reach, 0)], more[min(middle + reach, len(more) - 1)]


def _show_steps(title: str, found: Mapping[int, Sequence[tuple[float, float]]]) -> None:
    table = Table(title=f"in a step, {title}: FULL_DECODE_ONLY, bfloat16, one rank; medians")
    for column in ("batch", "ms without", "ms with", "more", "95 % interval"):
        table.add_column(column, justify="right")
    for batch, pairs in found.items():
        without, with_it = (statistics.median(column) for column in zip(*pairs, strict=True))
        more, low, high = growth(pairs)
        table.add_row(str(batch), f"{without:.3f}", f"{with_it:.3f}", f"{more:.2%}", f"{low:.2%} to {high:.2%}")
    Console().print(table)


async def _telling_ray(times: int = 20) -> tuple[float, int]:
    """Median milliseconds to tell Ray all that this process has counted, and how many values that are."""
    import ray
    from prometheus_client import REGISTRY

    from ascend_serve.replica.ray_metrics import RayMetrics

    async def nothing() -> None: ...

    ray.init(num_cpus=1, log_to_driver=False)
    metrics = RayMetrics(nothing)
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        metrics.copy()
        found.append(1e3 * (time.perf_counter() - begun))
    metrics.stop()
    return statistics.median(found), sum(len(metric.samples) for metric in REGISTRY.collect())


def _show_telling(milliseconds: float, values: int) -> None:
    table = Table("values", "ms", "share of ten seconds", title="telling Ray what is counted")
    table.add_row(str(values), f"{milliseconds:.2f}", f"{milliseconds / 1e4:.3%}")
    Console().print(table)


def _watched(windows: int, seconds: float, clients: int) -> list[tuple[float, float]]:
    """Steps per second of each pair of windows, alone and watched."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        one = ("parallel.tensor_parallel_size=1", "emulated.npus=1", "serving.recovery.spares=false")
        server = start(Path(folder) / "output", *one)
        stack.callback(server.end, signal.SIGINT)
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
    for column in ("alone", "watched", "change", "95 % interval"):
        table.add_column(column, justify="right")
    alone, watched = (statistics.median(column) for column in zip(*pairs, strict=True))
    more, low, high = growth(pairs)
    table.add_row(f"{alone:.0f}", f"{watched:.0f}", f"{more:.1%}", f"{low:.1%} to {high:.1%}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
