"""A batch of requests for offline generation: lines in, records out, in the same order."""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ascend_serve.errors import ConfigError
from ascend_serve.offline.batch_lines import RequestLine, line_of, parse_line, record_id, record_of
from ascend_serve.offline.parquet import SUFFIX, check_parquet, is_parquet, read_rows, write_table

if TYPE_CHECKING:
    from ascend_serve.offline.offline_replica import Answer

STREAM = Path("-")
"""Standard input or standard output."""


class Answering(Protocol):
    """What a batch needs of an engine."""

    def answers(self, requests: Iterable[Mapping[str, Any]]) -> Iterator[Answer]: ...


def read_lines(path: Path) -> Iterator[RequestLine]:
    """Read the requests of a file; empty lines count but ask nothing.

    Raises:
        ConfigError: The file is no text, or not in Parquet as it is named.
    """
    if is_parquet(path):
        yield from (line_of(number, row) for number, row in enumerate(read_rows(path), start=1))
        return
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, text in enumerate(file, start=1):
                if text.strip():
                    yield parse_line(number, text)
    except UnicodeDecodeError as error:
        raise ConfigError(f"--input: {path} is not text in UTF-8: {error}", "Give one JSON object per line.") from error


def answer_lines(engine: Answering, lines: Iterable[RequestLine]) -> Iterator[dict[str, Any]]:
    """The output for each line, in order; lines that hold no request are answered with their error."""
    waiting: deque[RequestLine] = deque()

    def requests() -> Iterator[Mapping[str, Any]]:
        for line in lines:
            waiting.append(line)
            if line.body is not None:
                yield {"url": line.path, "body": line.body}

    for answer in engine.answers(requests()):
        while waiting[0].body is None:
            yield record_of(waiting.popleft(), None)
        yield record_of(waiting.popleft(), answer)
    yield from (record_of(line, None) for line in waiting)


def check_output(path: Path, *, force: bool) -> None:
    """Make sure that a file can be written without losing another.

    Args:
        path: What ``--output`` names.
        force: Whether to replace what is there.

    Raises:
        ConfigError: Something is there, or its folder is not.
    """
    if path.exists() and not force:
        raise ConfigError(f"--output: {path} exists", "Choose another name, or replace it with --force.")
    if not path.parent.is_dir():
        raise ConfigError(f"--output: the folder {path.parent} does not exist", "Create it first.")


@dataclass(slots=True)
class OutputFile:
    """The output, written beside its name and moved there when it is complete; JSON lines until then.

    Args:
        path: Where it goes.
        resume: Whether to go on with what an interrupted run has left.
        force: Whether to replace what is there.

    Attributes:
        done: Lines that an interrupted run has left and that are kept.
    """

    path: Path
    resume: bool = False
    force: bool = False
    done: int = field(default=0, init=False)

    @property
    def part(self) -> Path:
        """Where it is written until it is complete."""
        return self.path.with_name(self.path.name + ".part")

    def prepare(self, lines: Iterable[RequestLine]) -> None:
        """Make sure that nothing is overwritten that was not meant to be.

        Args:
            lines: The input, to tell whether the interrupted run had the same one.

        Raises:
            ConfigError: Something is there, or cannot be gone on with.
        """
        check_output(self.path, force=self.force)
        if is_parquet(self.path):
            check_parquet("--output", self.path)
        if self.part.exists() and not self.force:
            self._go_on(lines)
        else:
            self.part.write_bytes(b"")

    def _go_on(self, lines: Iterable[RequestLine]) -> None:
        if not self.resume:
            raise ConfigError(
                f"--output: {self.part} is left from an interrupted run",
                "Continue it with --resume, or start over with --force.",
            )
        written = self.part.read_bytes()
        complete = written[: written.rfind(b"\n") + 1]
        ids = [record_id(json.loads(text)) for text in complete.splitlines()]
        if ids != [line.id for line in islice(lines, len(ids))]:
            raise ConfigError(
                f"--resume: {self.part} answers other requests than --input",
                "Give the input of the interrupted run, or start over with --force.",
            )
        self.part.write_bytes(complete)
        self.done = len(ids)

    def write(self, records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Append ``records`` and yield each once it is written; the file gets its name after the last one."""
        with self.part.open("a", encoding="utf-8") as file:
            for record in records:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
                file.flush()
                yield record
            os.fsync(file.fileno())
        if is_parquet(self.path):
            self._write_table()
        else:
            self.part.replace(self.path)

    def _write_table(self) -> None:
        table = self.part.with_suffix(f".part{SUFFIX}")
        write_table(self.part, table)
        table.replace(self.path)
        self.part.unlink()


@dataclass(slots=True)
class OutputStream:
    """Standard output as the output: nothing is left of a run that is interrupted.

    Attributes:
        done: Lines that need not be answered any more: none.
    """

    done: int = field(default=0, init=False)

    def prepare(self, lines: Iterable[RequestLine]) -> None:
        """There is nothing to prepare."""

    def write(self, records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Write ``records`` and yield each once it is written."""
        for record in records:
            sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
            sys.stdout.flush()
            yield record
