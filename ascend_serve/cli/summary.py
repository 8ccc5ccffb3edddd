"""What a deployment came to, for a person: the table after a start-up, and a command to try."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from rich import box
from rich.console import Console
from rich.table import Table

from ascend_serve.capture.roster import RankState
from ascend_serve.telemetry.report import GraphReport, Outcome

OUTCOME_STYLES = {Outcome.GRAPH: "green", Outcome.DEGRADED: "yellow", Outcome.EAGER: "yellow"}


def print_summary(console: Console, report: GraphReport) -> None:
    """Print what was asked for, what holds and why, and what each rank holds."""
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, value in _facts(report):
        facts.add_row(name, value)
    console.print(facts)
    if report.ranks:
        console.print(_rank_table(report.ranks))


def _facts(report: GraphReport) -> Iterator[tuple[str, str]]:
    style = OUTCOME_STYLES[report.outcome]
    yield "outcome", f"[{style}]{report.outcome}[/]"
    yield "mode", _change(report.requested_mode, report.effective_mode)
    yield "runtime", _change(report.requested_runtime, report.runtime)
    yield "capture sizes", " ".join(map(str, report.capture_sizes)) or "none"
    instruction_sets = sorted({rank.instruction_set for rank in report.ranks} - {""})
    if instruction_sets:
        yield "processor", ", ".join(instruction_sets)
    for adjustment in report.adjustments:
        yield "why", f"{adjustment.before} -> {adjustment.after}: {adjustment.reason} ({adjustment.rule})"


def _change(requested: str, effective: str) -> str:
    return effective if requested == effective else f"{effective} (requested: {requested})"


def _rank_table(ranks: tuple[RankState, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("rank", "node", "pid", "graphs", "seconds", "streams used", "streams left"):
        table.add_column(heading, justify="left" if heading == "node" else "right")
    for rank in ranks:
        numbers = (rank.streams_used, rank.streams_left)
        streams = ["-" if number is None else str(number) for number in numbers]
        row = [str(rank.rank), rank.node, str(rank.pid), str(rank.graphs), f"{rank.capture_seconds:.1f}"]
        table.add_row(*row, *streams)
    return table


def curl_line(url: str, model: str, *, key: bool = False) -> str:
    """A command that asks the model something and works when pasted.

    Args:
        url: Where it answers.
        model: Name of the model.
        key: Whether it asks for an API key, which is expected in ``VLLM_API_KEY`` then.
    """
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 32}
    header = shlex.quote("Content-Type: application/json")
    authorization = ' -H "Authorization: Bearer $VLLM_API_KEY"' if key else ""
    data = shlex.quote(json.dumps(body))
    return f"curl {_past_proxies(url)}{url}/v1/chat/completions -H {header}{authorization} -d {data}"


def _past_proxies(url: str) -> str:
    """An option for curl where the environment would have it ask a proxy, which does not know this machine."""
    parts = urlsplit(url)
    taken = {parts.scheme, "all"} & getproxies().keys()
    return "--noproxy '*' " if taken and not proxy_bypass(parts.hostname or "") else ""
