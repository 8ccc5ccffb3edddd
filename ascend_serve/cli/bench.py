"""``ascend-serve bench``: load on a server with the OpenAI API, and how fast it answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel
from rich.markup import escape
from rich.table import Table

from ascend_serve.api.api_keys import api_keys
from ascend_serve.bench.server import ServedModel, Server
from ascend_serve.bench.vllm_bench import Load, Measured, check_tokenizer, measure
from ascend_serve.cli.output import print_warning, stderr, stdout
from ascend_serve.offline.batch import check_output
from ascend_serve.replica.vllm_import import check_vllm
from ascend_serve.telemetry.report import GraphReport

_CLIENTS = (1, 8, 32)
_REQUESTS_OF_A_CLIENT = 8
_MIN_REQUESTS = 16


class BenchResults(BaseModel):
    """What ``--output`` holds.

    Attributes:
        url: The server.
        model: What it calls its model.
        input_tokens: Of each prompt.
        output_tokens: Of each answer.
        report: What the ranks held before the first load; ``None`` where the server does not tell.
        loads: What each load came to.
    """

    url: str
    model: str
    input_tokens: int
    output_tokens: int
    report: GraphReport | None
    loads: list[Measured]


def bench(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Address of the server, for example http://127.0.0.1:8000.")
    ],
    *,
    clients: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Concurrent requests; can be given several times. [default: 1, 8, 32]"),
    ] = None,
    input_tokens: Annotated[int, typer.Option(min=1, help="Tokens of each prompt, which are random.")] = 128,
    output_tokens: Annotated[int, typer.Option(min=2, help="Tokens of each answer.")] = 128,
    requests: Annotated[
        int | None,
        typer.Option(min=1, help="Requests per load. [default: 8 for each client, at least 16]"),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Which model, where the server has several.")] = None,
    tokenizer: Annotated[
        str, typer.Option(help="Folder or name of the tokenizer, where the server's model is not on this machine.")
    ] = "",
    api_key_file: Annotated[
        str | None, typer.Option(help="File whose first line is the API key; else VLLM_API_KEY, if it is set.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="JSON file for the results.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an output file that exists.")] = False,
) -> None:
    """Measure a server with the OpenAI API, this one or another, with vLLM's own load generator.

    Before each load every client sends one request that is not measured. Exits with 1 if a request failed.
    """
    if output is not None:
        check_output(output, force=force)
    check_vllm()
    keys = api_keys(api_key_file, "--api-key-file")
    server = Server(url.rstrip("/"), keys[0].get_secret_value() if keys else "")
    served = server.model(model)
    loads = [_load(count, input_tokens, output_tokens, requests) for count in clients or _CLIENTS]
    for load in loads:
        load.check(served)
    report = server.report()
    measured = list(_measure(server, served, loads, tokenizer))
    results = BenchResults(
        url=server.url,
        model=served.name,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        report=report,
        loads=measured,
    )
    _show(results)
    if output is not None:
        output.write_text(results.model_dump_json(indent=2) + "\n", encoding="utf-8")
        stdout.print(f"results in {output}", markup=False)
    failed = [load for load in measured if load.failed]
    if failed:
        print_warning(f"{sum(load.failed for load in failed)} requests failed, the first with: {failed[0].error}")
        raise typer.Exit(code=1)


def _load(clients: int, input_tokens: int, output_tokens: int, requests: int | None) -> Load:
    count = requests or max(_MIN_REQUESTS, _REQUESTS_OF_A_CLIENT * clients)
    return Load(clients, input_tokens, output_tokens, count, warm_ups=clients, seed=clients)


def _measure(server: Server, model: ServedModel, loads: Sequence[Load], tokenizer: str) -> Iterator[Measured]:
    with stderr.status("vLLM's load generator is loaded"):
        check_tokenizer(tokenizer or model.root)
    for load in loads:
        stderr.print(f"{load.clients} clients, {load.requests} requests")
        yield measure(server, model, load, tokenizer=tokenizer, progress=stderr.is_terminal)


def _show(results: BenchResults) -> None:
    table = Table(title=f"{escape(results.model)} at {escape(results.url)}", title_justify="left")
    headings = ("clients", "tokens/s", "TTFT ms p50", "p99", "TPOT ms p50", "p99", "failed")
    for heading in headings:
        table.add_column(heading, justify="right")
    for load in results.loads:
        times = (load.ttft_p50_ms, load.ttft_p99_ms, load.tpot_p50_ms, load.tpot_p99_ms)
        failed = f"[red]{load.failed} of {load.requests}[/]" if load.failed else "0"
        table.add_row(str(load.clients), f"{load.tokens_per_second:.0f}", *(f"{time:.1f}" for time in times), failed)
    stdout.print(table)
    shape = f"{results.input_tokens} tokens in, {results.output_tokens} out"
    stdout.print(f"{shape}; {_held(results.report)}" if results.report else shape, markup=False)


def _held(report: GraphReport) -> str:
    sizes = " ".join(map(str, report.capture_sizes)) or "none"
    return f"mode {report.effective_mode} ({report.runtime}, {len(report.ranks)} ranks), capture sizes {sizes}"
