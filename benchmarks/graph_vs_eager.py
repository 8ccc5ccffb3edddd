"""Measures one decode forward, replayed against eager, step by step in turn in one process.

Real requests are decoded on the emulated NPU; every other step runs eager, so that both see the same machine, the same
contexts and the same batch. Prints medians in milliseconds; the tokens of both are checked against an eager run.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

PROMPT = "The emulated NPU says"
WARM_UP_STEPS = 10


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


def main(
    *,
    model: Annotated[Path | None, typer.Option(help="Model folder; the demo model when not given.")] = None,
    mode: Annotated[str, typer.Option(help="cudagraph_mode that is compared with eager.")] = "FULL_DECODE_ONLY",
    batch: Annotated[list[int], typer.Option(help="Requests in the batch; may be repeated.")] = [1, 16],  # noqa: B006
    steps: Annotated[int, typer.Option(help="Measured decode steps, half of them eager.")] = 400,
    threads: Annotated[int, typer.Option(help="Threads of the kernels.")] = 1,
    dtype: Annotated[str, typer.Option(help="Type of weights and activations.")] = "float32",
) -> None:
    """Compare a replayed decode forward with an eager one."""
    os.environ.update(
        ASCEND_SERVE_EMULATED_NPU="1",
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
        VLLM_LOGGING_LEVEL="ERROR",
        VLLM_CPU_OMP_THREADS_BIND="nobind",
        OMP_NUM_THREADS=str(threads),
        OMP_PROC_BIND="false",
        OMP_PLACES="cores",
    )
    with tempfile.TemporaryDirectory() as scratch:
        engine = _engine(model or _demo_model(Path(scratch) / "demo"), mode, max(batch), dtype, steps)
        _print(mode, dtype, threads, [(size, *_measure(engine, size, steps)) for size in batch])


def _demo_model(folder: Path) -> Path:
    from ascend_serve.emulated.demo_model import make_demo_model

    return make_demo_model(folder)


def _engine(model: Path, mode: str, max_batch: int, dtype: str, steps: int) -> Any:
    from vllm import LLM

    length = steps + WARM_UP_STEPS + 64
    return LLM(
        str(model),
        dtype=dtype,
        max_model_len=length,
        max_num_seqs=max_batch,
        max_num_batched_tokens=max(length, 512),
        kv_cache_memory_bytes=1 << 29,
        enable_prefix_caching=False,
        distributed_executor_backend="uni",
        compilation_config={"cudagraph_mode": mode, "cudagraph_capture_sizes": sorted({1, 2, 4, 8, max_batch})},
    ).llm_engine


def _measure(engine: Any, batch: int, steps: int) -> tuple[list[float], list[float], bool]:
    """Forward times in milliseconds, graph and eager, and whether the tokens are those of a run that is all eager."""
    mixed, tokens = _decode(engine, batch, steps, lambda step: step % 2 == 0)
    _, reference = _decode(engine, batch, steps, lambda step: False)
    return mixed[0::2], mixed[1::2], tokens == reference


def _decode(engine: Any, batch: int, steps: int, replay: Any) -> tuple[list[float], list[list[int]]]:
    from vllm import SamplingParams
    from vllm.config import CUDAGraphMode

    runner = engine.model_executor.driver_worker.worker.model_runner
    dispatcher = runner.cudagraph_dispatcher
    mode, model = dispatcher.cudagraph_mode, runner.model
    runner.model = timed = TimedModel(model)
    sampling = SamplingParams(temperature=0, max_tokens=steps + WARM_UP_STEPS + 1, ignore_eos=True)
    for index in range(batch):
        engine.add_request(f"{id(timed)}-{index}", f"{PROMPT} {index:02d}", sampling)
    times, finished = [], {}
    for step in range(-1 - WARM_UP_STEPS, steps):
        dispatcher.cudagraph_mode = mode if replay(step) else CUDAGraphMode.NONE
        for output in engine.step():
            if output.finished:
                finished[output.request_id] = list(output.outputs[0].token_ids)
        times.append(timed.seconds * 1e3)
    dispatcher.cudagraph_mode, runner.model = mode, model
    return times[1 + WARM_UP_STEPS :], [finished[request] for request in sorted(finished)]


def _print(mode: str, dtype: str, threads: int, rows: list[tuple[int, list[float], list[float], bool]]) -> None:
    table = Table(title=f"decode forward, {mode}, {dtype}, {threads} thread(s), median ms")
    for column in ("batch", "eager", "graph", "speed-up", "same tokens"):
        table.add_column(column, justify="right")
    for batch, graph, eager, same in rows:
        graph_ms, eager_ms = statistics.median(graph), statistics.median(eager)
        table.add_row(
            str(batch), f"{eager_ms:.3f}", f"{graph_ms:.3f}", f"{eager_ms / graph_ms:.2f}x", "yes" if same else "NO"
        )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
