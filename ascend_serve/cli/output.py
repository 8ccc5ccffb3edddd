"""What all commands share of their output: two consoles, the form of errors and warnings."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.markup import escape

from ascend_serve.errors import AscendServeError, OutputFileError

stdout = Console(soft_wrap=True, highlight=False)
"""Results. Long lines are not broken, so that they can be pasted and piped."""

stderr = Console(stderr=True, soft_wrap=True, highlight=False)
"""Progress, warnings and errors."""


def print_error(error: AscendServeError) -> None:
    """Print what was wrong, what to do next and where to read more to the standard error stream."""
    stderr.print(f"[bold red]error:[/] {escape(error.problem)}")
    if error.remedy:
        stderr.print(f"[bold green]next:[/]  {escape(error.remedy)}")
    if error.record:
        stderr.print(f"[bold]kept:[/]  all that was known is in {escape(error.record)}")


def print_warning(text: str) -> None:
    """Print a warning to the standard error stream."""
    stderr.print(f"[bold yellow]warning:[/] {escape(text)}")


def write_file(file: Path, text: str, option: str) -> None:
    """Write a file that ``option`` of a command names.

    Raises:
        OutputFileError: It cannot be written.
    """
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        problem = f"{option}: {file}: {error.strerror or error}"
        raise OutputFileError(problem, "Give a file that can be written.") from error


class WarningHandler(logging.Handler):
    """Shows log records of our packages in the form of `print_warning`, and what is only worth knowing as a note."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            print_warning(record.getMessage())
        else:
            stderr.print(f"[bold]note:[/] {escape(record.getMessage())}")


def show_warnings() -> None:
    """Show warnings and notes that our packages log, once each."""
    logger = logging.getLogger("ascend_serve")
    if not any(isinstance(handler, WarningHandler) for handler in logger.handlers):
        logger.addHandler(WarningHandler(logging.INFO))
        logger.setLevel(logging.INFO)
        logger.propagate = False


@contextlib.contextmanager
def surviving_output() -> Iterator[None]:
    """Let what is printed in the block go nowhere, instead of failing, once its terminal or its reader is gone."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Surviving(stream) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


class _Surviving:
    """A text stream whose file descriptor leads nowhere after the first failure to write to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._lead_nowhere()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._lead_nowhere()

    def _lead_nowhere(self) -> None:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())
