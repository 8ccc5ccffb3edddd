"""Lockstep capture against vLLM's own capture loop: two ranks over Ray, the same sizes, in turn in one run.

``python -m benchmarks.lockstep [RUNS]`` times ``capture_model`` on the ranks: once with the capture session in it,
where ranks meet before and after each size, and once as vLLM has it, where each rank walks alone.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

SIZES = (1, 2, 4, 8)
TOP = 16


def main() -> None:
    """Capture the same four sizes in both ways, in turn, and print medians."""
    os.environ |= {"ASCEND_SERVE_EMULATED_NPU": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    engine, executor = _start()
    seconds: dict[str, list[float]] = {"vLLM's own loop": [], "lockstep": []}
    engine.collective_rpc(_time_capture_model)
    for _ in track(range(runs), "captures"):
        seconds["vLLM's own loop"].append(max(engine.collective_rpc(_capture_alone)))
        executor.recapture((TOP,))
        executor.recapture((*SIZES, TOP))
        seconds["lockstep"].append(max(engine.collective_rpc(_last_capture)))
    _print(seconds)


def _start() -> tuple[Any, Any]:
    from tests.integration.engines import Scenario, start_engine

    sizes = [*SIZES, TOP]
    engine = start_engine(Scenario("lockstep", (f"graph.capture_sizes={sizes}",)))
    return engine, engine.engine_core.engine_core.model_executor


def _time_capture_model(worker: Any) -> None:
    runner, capture_model = worker.model_runner, worker.model_runner.capture_model

    def timed() -> Any:
        started = time.perf_counter()
        result = capture_model()
        runner.capture_seconds = time.perf_counter() - started
        return result

    runner.capture_model = timed


def _capture_alone(worker: Any) -> float:
    from ascend_serve.engine.runner_choice import seam_of
    from ascend_serve.graph.modes import GraphMode

    seam = seam_of(worker.model_runner)
    seam.release([key for key in seam.held() if key.num_tokens in SIZES])
    seam.dispatch(GraphMode.FULL_DECODE_ONLY, SIZES)
    seam.capture_model()
    seam.dispatch(GraphMode.FULL_DECODE_ONLY, (*SIZES, TOP))
    return float(worker.model_runner.capture_seconds)


def _last_capture(worker: Any) -> float:
    return float(worker.model_runner.capture_seconds)


def _print(seconds: dict[str, list[float]]) -> None:
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    alone = medians["vLLM's own loop"]
    table = Table("capture of 4 sizes, TP 2", "seconds, median", "against vLLM's own loop")
    for name, median in medians.items():
        table.add_row(name, f"{median:.3f}", f"{100 * (median / alone - 1):+.1f}%")
    Console().print(table)


if __name__ == "__main__":
    main()
