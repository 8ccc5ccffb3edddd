"""Measures one decode forward on the emulated NPU, replayed against eager, step by step in turn in one process."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.interleaved import Switch, TimedModel, compare, model_runner, prepare_environment, show, start_engine


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
    prepare_environment(threads)
    graphs = {"cudagraph_mode": mode, "cudagraph_capture_sizes": sorted({1, 2, 4, 8, max(batch)})}
    with tempfile.TemporaryDirectory() as scratch:
        path = str(model or _demo_model(Path(scratch) / "demo"))
        engine = start_engine(path, max(batch), steps, dtype=dtype, compilation_config=graphs)
        switch = _replay_or_eager(model_runner(engine))
        show(f"{mode}, {dtype}, {threads} thread(s)", "graph", (compare(engine, n, steps, switch) for n in batch))


def _demo_model(folder: Path) -> Path:
    from ascend_serve.emulated.demo_model import make_demo_model

    return make_demo_model(folder)


def _replay_or_eager(runner: Any) -> Switch:
    from vllm.config import CUDAGraphMode

    dispatcher = runner.cudagraph_dispatcher
    modes = {True: dispatcher.cudagraph_mode, False: CUDAGraphMode.NONE}
    runner.model = timed = TimedModel(runner.model)

    def switch(replay: bool) -> TimedModel:
        dispatcher.cudagraph_mode = modes[replay]
        return timed

    return switch


if __name__ == "__main__":
    typer.run(main)
