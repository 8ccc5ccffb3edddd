"""``ascend-serve profile``: a profiler trace of every rank of a running deployment."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import typer

from ascend_serve.cli.output import print_warning, stderr, stdout
from ascend_serve.serving.profiling import ProfiledServer
from ascend_serve.telemetry.op_statistic import STATISTIC
from ascend_serve.telemetry.report import GraphReport

_TRACES = ("*_ascend_pt", "*.pt.trace.json", "*.pt.trace.json.gz")
"""What ``torch_npu.profiler`` (folders) and ``torch.profiler`` (files) write."""


def profile(
    url: Annotated[str, typer.Option(help="Address of the deployment.")] = "http://127.0.0.1:8000",
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help="Trace what clients ask for in this time; by default one short request is sent.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Collect a profiler trace of every rank of a running deployment, which has to be started for it.

    The deployment needs vllm.profiler_config, for example
    'vllm.profiler_config={profiler: torch, torch_profiler_dir: /tmp/profile}'.
    With an API key, VLLM_API_KEY has to be set here too.
    """
    with ProfiledServer(url) as server:
        report = server.report()
        before = _traces(report.profiler_dir)
        with stderr.status("tracing") as status, server.profiled():
            if seconds is None:
                server.ask()
            else:
                time.sleep(seconds)
            status.update("the ranks write their traces")
    _show(report, sorted(_traces(report.profiler_dir) - before))


def _traces(folder: str) -> set[Path]:
    """Traces on this machine."""
    return {path for pattern in _TRACES for path in Path(folder).glob(pattern)}


def _show(report: GraphReport, traces: list[Path]) -> None:
    ranks = defaultdict(list)
    for rank in report.ranks:
        ranks[rank.node].append(str(rank.rank))
    for node, numbers in ranks.items():
        stdout.print(f"ranks {', '.join(numbers)} wrote to {report.profiler_dir} on {node}", markup=False)
    for trace in traces:
        stdout.print(f"  {trace}", markup=False)
    if not traces:
        print_warning(f"None of the traces is on this machine: look into {report.profiler_dir} on the nodes above.")
    statistics = [trace for trace in traces if any(trace.rglob(STATISTIC))]
    if statistics:
        stdout.print(f"next: ascend-serve static-kernels {' '.join(map(str, statistics))}", markup=False)
    elif traces:
        stdout.print("next: open them in https://ui.perfetto.dev or chrome://tracing", markup=False)
