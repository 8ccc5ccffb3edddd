"""Measures one decode forward through the emulated Xlite in full mode against eager, step by step in turn.

Real requests are decoded on the emulated NPU; every other step runs eager, so that both see the same machine, the same
contexts and the same batch. Prints medians in milliseconds; the tokens of both are checked against an eager run.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from graph_vs_eager import PROMPT, WARM_UP_STEPS, TimedModel
from rich.console import Console
from rich.table import Table


def main(
    *,
    architecture: Annotated[str, typer.Option(help="Architecture of the demo model.")] = "qwen3",
    batch: Annotated[list[int], typer.Option(help="Requests in the batch; may be repeated.")] = [1, 16],  # noqa: B006
    steps: Annotated[int, typer.Option(help="Measured decode steps, half of them eager.")] = 400,
    threads: Annotated[int, typer.Option(help="Threads of the kernels.")] = 1,
) -> None:
    """Compare a decode forward through Xlite with an eager one."""
    os.environ.update(
        ASCEND_SERVE_EMULATED_NPU="1",
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
        VLLM_LOGGING_LEVEL="ERROR",
        VLLM_CPU_OMP_THREADS_BIND="nobind",
        OMP_NUM_THREADS=str(threads),
        OMP_PROC_BIND="false",
        OMP_PLACES="cores",
    )
    table = Table(title=f"decode forward, Xlite in full mode, float32, {threads} thread(s), median ms")
    for column in ("model", "batch", "eager", "xlite", "speed-up", "same tokens"):
        table.add_column(column, justify="right")
    with tempfile.TemporaryDirectory() as scratch:
        engine = _engine(Path(scratch) / architecture, architecture, max(batch), steps)
        for size in batch:
            table.add_row(architecture, str(size), *_measure(engine, size, steps))
    Console().print(table)


def _engine(folder: Path, architecture: str, max_batch: int, steps: int) -> Any:
    from ascend_serve.emulated.demo_model import make_demo_model

    model = make_demo_model(folder, architecture=architecture)
    from vllm import LLM

    length = steps + WARM_UP_STEPS + 64
    return LLM(
        str(model),
        dtype="float32",
        max_model_len=length,
        max_num_seqs=max_batch,
        max_num_batched_tokens=max(length, 512),
        kv_cache_memory_bytes=1 << 28,
        enable_prefix_caching=False,
        enforce_eager=True,
        distributed_executor_backend="uni",
        additional_config={"xlite_graph_config": {"enabled": True, "full_mode": True}},
    ).llm_engine


def _measure(engine: Any, batch: int, steps: int) -> tuple[str, str, str, str]:
    """Forward times in milliseconds, eager and Xlite, their ratio, and whether the tokens are those of eager."""
    mixed, tokens = _decode(engine, batch, steps, lambda step: step % 2 == 0)
    _, reference = _decode(engine, batch, steps, lambda step: False)
    xlite, eager = statistics.median(mixed[0::2]), statistics.median(mixed[1::2])
    return f"{eager:.3f}", f"{xlite:.3f}", f"{eager / xlite:.2f}x", "yes" if tokens == reference else "NO"


def _decode(
    engine: Any, batch: int, steps: int, through_xlite: Callable[[int], bool]
) -> tuple[list[float], list[list[int]]]:
    from vllm import SamplingParams

    runner = engine.model_executor.driver_worker.worker.model_runner
    ways = {True: TimedModel(runner.xlite_model), False: TimedModel(runner.xlite_model.runnable)}
    sampling = SamplingParams(temperature=0, max_tokens=steps + WARM_UP_STEPS + 1, ignore_eos=True)
    for index in range(batch):
        engine.add_request(f"{id(ways)}-{index}", f"{PROMPT} {index:02d}", sampling)
    times, finished = [], {}
    for step in range(-1 - WARM_UP_STEPS, steps):
        runner.model = way = ways[through_xlite(step)]
        for output in engine.step():
            if output.finished:
                finished[output.request_id] = list(output.outputs[0].token_ids)
        times.append(way.seconds * 1e3)
    return times[1 + WARM_UP_STEPS :], [finished[request] for request in sorted(finished)]


if __name__ == "__main__":
    typer.run(main)
