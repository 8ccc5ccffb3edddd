"""``ascend-serve plan``: what a deployment will do and why, without any hardware."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ascend_serve.capture.plan_store import PlanStore, default_directory
from ascend_serve.cli.arguments import ConfigPath, OverrideArguments, described
from ascend_serve.cli.before_start import check_before_start
from ascend_serve.cli.output import stdout, write_file
from ascend_serve.planning import plan_deployment
from ascend_serve.planning.comparison import compare as compare_lists


def _forget(wanted: bool) -> None:
    if wanted:
        store = PlanStore(default_directory())
        stdout.print(f"Forgot {store.forget()} remembered plans in {store.directory}", highlight=False)
        raise typer.Exit


def plan(
    config: ConfigPath,
    overrides: OverrideArguments = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
    compare: Annotated[bool, typer.Option(help="Compare with the sizes of vLLM, SGLang and TensorRT-LLM.")] = False,
    histogram: Annotated[Path | None, typer.Option(help="JSON file: steps per decode batch size.")] = None,
    trace: Annotated[Path | None, typer.Option(help="CSV or JSON lines: arrival, input_tokens, output_tokens.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Clients that ask one request at a time each.")] = None,
    stream_budget: Annotated[
        int | None, typer.Option(min=0, help="Streams left for graphs, as measured by a start on this hardware.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the plan there, with plots, for a browser; no tables here."),
    ] = None,
    forget: Annotated[
        bool,
        typer.Option(
            "--forget",
            callback=_forget,
            is_eager=True,
            help="Forget the capture plans that earlier starts kept, and plan nothing.",
        ),
    ] = False,
) -> None:
    """Plan a deployment: mode, capture sizes, placement, arguments, and every rule that changes what was asked for."""
    workload = {"histogram": histogram, "trace": trace, "concurrency": concurrency}
    loaded = described(config, [*(overrides or ()), *_workload_overrides(workload)]).load_with_sources()
    check_before_start(loaded.config)
    planned = plan_deployment(loaded.config, measured_budget=stream_budget)
    lists = compare_lists(planned) if compare or html else ()
    if html is not None:
        from ascend_serve.cli.plan_page import plan_page

        write_file(html, plan_page(planned, lists), "--html")
    if as_json:
        comparison = {"comparison": [entry.model_dump(mode="json") for entry in lists]} if compare else {}
        typer.echo(json.dumps(planned.model_dump(mode="json") | comparison, indent=2))
        return
    if html is not None:
        stdout.print(f"{html} has the plan", markup=False)
        return
    from ascend_serve.cli.plan_tables import arguments_text, comparison_tables, plan_tables

    stdout.print(plan_tables(planned), soft_wrap=False)
    stdout.print("\nvLLM arguments", style="bold")
    stdout.print(arguments_text(planned), markup=False)
    if lists:
        stdout.print(comparison_tables(lists), soft_wrap=False)


def _workload_overrides(workload: dict[str, Path | int | None]) -> list[str]:
    """The workload of the command line replaces that of the file, whatever kind it is."""
    if all(value is None for value in workload.values()):
        return []
    texts = {name: value if isinstance(value, int | None) else str(value) for name, value in workload.items()}
    given = {name: value for name, value in texts.items() if value is not None}
    said = [f"graph.workload.{name}={json.dumps(value, ensure_ascii=False)}" for name, value in given.items()]
    return [*(f"~graph.workload.{name}" for name in workload if name not in given), *said]
