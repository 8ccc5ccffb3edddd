"""``ascend-serve generate``: answer a file of requests on the same engine as serving."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ascend_serve.cli.arguments import ConfigPath, OverrideArguments, Verbose, described
from ascend_serve.cli.lifetime import end_at_once, owned_processes
from ascend_serve.cli.output import print_warning, stdout
from ascend_serve.cli.output import stderr as console
from ascend_serve.cli.startup import StartupProgress
from ascend_serve.cli.summary import print_summary
from ascend_serve.cluster.token import prefer_token_authentication
from ascend_serve.errors import ConfigError
from ascend_serve.offline.batch import Answering, OutputFile, RequestLine, answer_lines, read_lines


def generate(
    config: ConfigPath,
    overrides: OverrideArguments = None,
    *,
    source: Annotated[Path, typer.Option("--input", help="One JSON object per line, with prompt or messages.")],
    output: Annotated[Path, typer.Option("--output", help="One JSON object per line, in the order of the input.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an output file that exists.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the output of an interrupted run.")] = False,
    verbose: Verbose = False,
) -> None:
    """Answer a file of requests offline. Lines that cannot be answered get their error in the output."""
    prefer_token_authentication()
    loaded = described(config, overrides).load()
    if not source.is_file():
        raise ConfigError(f"--input: {source}: no such file", "Give a file with one JSON object per line.")
    file = OutputFile(output, resume=resume, force=force)
    file.prepare(read_lines(source))
    total = sum(1 for _ in read_lines(source))
    with owned_processes(), ExitStack() as stack:
        from ascend_serve.offline.generation import Engine

        with StartupProgress(console) as progress:
            progress.enter("cluster")
            engine = stack.enter_context(Engine(loaded, verbose=verbose, follow=progress.follow, on_loss=end_at_once))
        print_summary(console, engine.report())
        failed = _answer(engine, islice(read_lines(source), file.done, None), file, total)
    stdout.print(f"{total} answers in {output}", markup=False)
    if failed:
        print_warning(f'{failed} of {total} requests have no answer; their lines in {output} say why in "error".')


def _answer(engine: Answering, lines: islice[RequestLine], file: OutputFile, total: int) -> int:
    """Answer ``lines`` into ``file`` and count those that have no answer."""
    columns = (TextColumn("generate"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    failed = 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("generate", total=total, completed=file.done)
        for record in file.write(answer_lines(engine, lines)):
            failed += "error" in record
            progress.advance(task)
    return failed
