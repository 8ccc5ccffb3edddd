"""``ascend-serve generate``: answer a file of requests on the same engine as serving."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ascend_serve.cli.arguments import ConfigPath, OverrideArguments, Verbose, described
from ascend_serve.cli.failure_record import FailureRecord
from ascend_serve.cli.lifetime import owned_processes
from ascend_serve.cli.output import print_warning
from ascend_serve.cli.output import stderr as console
from ascend_serve.cli.startup import StartupProgress
from ascend_serve.cli.summary import print_summary
from ascend_serve.cluster.token import prefer_token_authentication
from ascend_serve.errors import ConfigError
from ascend_serve.offline.batch import STREAM, Answering, OutputFile, OutputStream, answer_lines, read_lines
from ascend_serve.offline.batch_lines import RequestLine, has_failed
from ascend_serve.offline.parquet import check_parquet, is_parquet

if TYPE_CHECKING:
    from ascend_serve.telemetry.report import GraphReport

SOME_FAILED = 3
"""Exit code when some requests have no answer."""

NONE_ANSWERED = 4
"""Exit code when no request has one."""


def generate(
    config: ConfigPath,
    overrides: OverrideArguments = None,
    *,
    source: Annotated[
        Path,
        typer.Option(
            "--input",
            help="One JSON object per line, with prompt or messages, or of OpenAI's Batch API; - is standard input. "
            "Or rows of such columns, where it ends in .parquet.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            help="One JSON object per line, in the order of the input; - is standard output. Or a table, where it ends "
            "in .parquet.",
        ),
    ],
    engines: Annotated[
        int, typer.Option("--engines", min=1, help="How many times to load the model, each time on NPUs of its own.")
    ] = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace an output file that exists.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the output of an interrupted run.")] = False,
    verbose: Verbose = False,
) -> None:
    """Answer a file of requests offline. Exit code 3: some have no answer, their lines say why; 4: none has one."""
    started = time.time()
    prefer_token_authentication()
    loaded = described(config, overrides).load()
    file = _output(output, resume=resume, force=force)
    with ExitStack() as stack:
        requests = stack.enter_context(_input(source))
        file.prepare(read_lines(requests))
        total = sum(1 for _ in read_lines(requests))
        stack.enter_context(owned_processes())
        record = FailureRecord(loaded, started)
        stack.enter_context(record.of_errors())
        from ascend_serve.offline.generation import Engine

        with StartupProgress(console) as progress:
            progress.enter("cluster")
            engine = Engine(
                loaded, engines=engines, verbose=verbose, follow=progress.follow, on_loss=record.end_at_once
            )
            stack.enter_context(engine)
        record.begin_to_serve(engine.cluster)
        reports = engine.reports()
        print_summary(console, reports[0])
        _warn_of_others(reports)
        failed = _answer(engine, islice(read_lines(requests), file.done, None), file, total)
    console.print(f"{total} answers in {'standard output' if output == STREAM else output}", markup=False)
    if failed:
        print_warning(f'{failed} of {total} requests have no answer; their lines in {output} say why in "error".')
        raise typer.Exit(NONE_ANSWERED if failed == total else SOME_FAILED)


def _warn_of_others(reports: Sequence[GraphReport]) -> None:
    """Tell of engines that came up otherwise than the first, whose summary is shown."""
    first, *others = [f"{report.runtime} {report.effective_mode}" for report in reports]
    for number, other in enumerate(others, start=2):
        if other != first:
            print_warning(f"engine {number} runs {other}, the first {first}")


def _output(path: Path, *, resume: bool, force: bool) -> OutputFile | OutputStream:
    if path != STREAM:
        return OutputFile(path, resume=resume, force=force)
    if resume or force:
        raise ConfigError("--output: - cannot be continued or replaced", "Leave out --resume and --force.")
    return OutputStream()


@contextmanager
def _input(path: Path) -> Iterator[Path]:
    """The file of requests, which is read more than once: what comes from standard input is kept meanwhile."""
    if path != STREAM:
        if not path.is_file():
            raise ConfigError(f"--input: {path}: no such file", "Give a file with one JSON object per line.")
        if is_parquet(path):
            check_parquet("--input", path)
        yield path
        return
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as kept:
        shutil.copyfileobj(sys.stdin.buffer, kept)
        kept.flush()
        yield Path(kept.name)


def _answer(engine: Answering, lines: islice[RequestLine], file: OutputFile | OutputStream, total: int) -> int:
    """Answer ``lines`` into ``file`` and count those that have no answer."""
    columns = (TextColumn("generate"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    told = ProgressLines(total, file.done)
    failed = 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("generate", total=total, completed=file.done)
        for record in file.write(answer_lines(engine, lines)):
            failed += has_failed(record)
            progress.advance(task)
            line = told.advance(failed)
            if line and not console.is_terminal:
                console.print(line, markup=False, highlight=False)
    return failed


@dataclass(slots=True)
class ProgressLines:
    """How far a batch is, in a line now and then, for a log.

    Args:
        total: Requests of the batch.
        done: Those that an interrupted run has answered.
        every: Seconds between two lines.
        clock: What tells seconds.
    """

    total: int
    done: int = 0
    every: float = 10.0
    clock: Callable[[], float] = time.monotonic
    _start: float = field(init=False)
    _told: float = field(init=False)
    _before: int = field(init=False)

    def __post_init__(self) -> None:
        self._start = self._told = self.clock()
        self._before = self.done

    def advance(self, failed: int) -> str:
        """Count one more; the line to write, or nothing.

        Args:
            failed: How many have failed so far.
        """
        self.done += 1
        now = self.clock()
        if now - self._told < self.every and self.done < self.total:
            return ""
        self._told = now
        rate = (self.done - self._before) / max(now - self._start, 1e-9)
        left = f", {(self.total - self.done) / rate:.0f} s left" if self.done < self.total else ""
        lost = f", {failed} failed" if failed else ""
        return f"generate: {self.done} of {self.total}{lost}, {rate:.3g}/s{left}"
