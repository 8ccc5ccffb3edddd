"""Measures one decode forward through the emulated Xlite in full mode against eager, step by step in turn."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.interleaved import Switch, TimedModel, compare, model_runner, prepare_environment, show, start_engine


def main(
    *,
    architecture: Annotated[str, typer.Option(help="Architecture of the demo model.")] = "qwen3",
    batch: Annotated[list[int], typer.Option(help="Requests in the batch; may be repeated.")] = [1, 16],  # noqa: B006
    steps: Annotated[int, typer.Option(help="Measured decode steps, half of them eager.")] = 400,
    threads: Annotated[int, typer.Option(help="Threads of the kernels.")] = 1,
) -> None:
    """Compare a decode forward through Xlite with an eager one."""
    prepare_environment(threads)
    from ascend_serve.emulated.demo_model import make_demo_model

    xlite = {"xlite_graph_config": {"enabled": True, "full_mode": True}}
    with tempfile.TemporaryDirectory() as scratch:
        model = str(make_demo_model(Path(scratch) / architecture, architecture=architecture))
        engine = start_engine(model, max(batch), steps, dtype="float32", enforce_eager=True, additional_config=xlite)
        switch = _xlite_or_eager(model_runner(engine))
        title = f"{architecture}, Xlite in full mode, float32, {threads} thread(s)"
        show(title, "xlite", (compare(engine, size, steps, switch) for size in batch))


def _xlite_or_eager(runner: Any) -> Switch:
    ways = {True: TimedModel(runner.xlite_model), False: TimedModel(runner.xlite_model.runnable)}

    def switch(through_xlite: bool) -> TimedModel:
        runner.model = ways[through_xlite]
        return ways[through_xlite]

    return switch


if __name__ == "__main__":
    typer.run(main)
