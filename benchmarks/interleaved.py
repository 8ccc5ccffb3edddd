"""One decode forward in two ways, step by step in turn in one process, so that both see the same machine and batch.

Real requests are decoded on the emulated NPU; every other step runs eager. The tokens are held against a run that is
all eager.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

_PROMPT = "The emulated NPU says"
_WARM_UP_STEPS = 10


class TimedModel:
    """The model, with the time of each call.

    Args:
        model: What the model runner calls.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.seconds = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = self._model(*args, **kwargs)
        self.seconds = time.perf_counter() - start
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


Switch = Callable[[bool], TimedModel]
"""Lets the next step run fast (or eager) and answers what will be called."""


def prepare_environment(threads: int) -> None:
    """Set what vLLM reads when it is imported: the emulated NPU, in this process, with ``threads`` for its kernels."""
    os.environ.update(
        ASCEND_SERVE_EMULATED_NPU="1",
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
        VLLM_LOGGING_LEVEL="ERROR",
        VLLM_CPU_OMP_THREADS_BIND="nobind",
        OMP_NUM_THREADS=str(threads),
        OMP_PROC_BIND="false",
        OMP_PLACES="cores",
    )


def start_engine(model: str, max_batch: int, steps: int, **arguments: Any) -> Any:
    """Start vLLM's engine in this process, with room for ``steps`` measured steps."""
    from vllm import LLM

    length = steps + _WARM_UP_STEPS + 64
    return LLM(
        model,
        max_model_len=length,
        max_num_seqs=max_batch,
        max_num_batched_tokens=max(length, 512),
        kv_cache_memory_bytes=1 << 29,
        enable_prefix_caching=False,
        distributed_executor_backend="uni",
        **arguments,
    ).llm_engine


def model_runner(engine: Any) -> Any:
    """The model runner of an engine in this process."""
    return engine.model_executor.driver_worker.worker.model_runner


def compare(engine: Any, batch: int, steps: int, switch: Switch) -> tuple[str, ...]:
    """Decode ``batch`` requests: batch, median ms eager and fast, their ratio, whether the tokens are equal."""
    mixed, tokens = _decode(engine, batch, steps, lambda step: switch(step % 2 == 0))
    _, reference = _decode(engine, batch, steps, lambda step: switch(False))
    fast, eager = statistics.median(mixed[0::2]), statistics.median(mixed[1::2])
    same = "yes" if tokens == reference else "NO"
    return str(batch), f"{eager:.3f}", f"{fast:.3f}", f"{eager / fast:.2f}x", same


def _decode(
    engine: Any, batch: int, steps: int, model_of: Callable[[int], TimedModel]
) -> tuple[list[float], list[list[int]]]:
    """Milliseconds of each measured step, and the tokens of each request."""
    from vllm import SamplingParams

    sampling = SamplingParams(temperature=0, max_tokens=steps + _WARM_UP_STEPS + 1, ignore_eos=True)
    for index in range(batch):
        engine.add_request(f"{time.monotonic_ns()}-{index:02d}", f"{_PROMPT} {index:02d}", sampling)
    times, finished = [], {}
    for step in range(-1 - _WARM_UP_STEPS, steps):
        model = model_of(step)
        for output in engine.step():
            if output.finished:
                finished[output.request_id.rpartition("-")[2]] = list(output.outputs[0].token_ids)
        times.append(model.seconds * 1e3)
    return times[1 + _WARM_UP_STEPS :], [finished[request] for request in sorted(finished)]


def show(title: str, fast: str, rows: Iterable[tuple[str, ...]]) -> None:
    """Print the rows of `compare`; ``fast`` names the way that is no eager."""
    table = Table(title=f"decode forward, {title}, median ms")
    for column in ("batch", "eager", fast, "speed-up", "same tokens"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
