"""What all commands share of their output: two consoles, the form of errors and warnings."""

from __future__ import annotations

import logging

from rich.console import Console
from rich.markup import escape

from ascend_serve.errors import AscendServeError

stdout = Console(soft_wrap=True, highlight=False)
"""Results. Long lines are not broken, so that they can be pasted and piped."""

stderr = Console(stderr=True, soft_wrap=True, highlight=False)
"""Progress, warnings and errors."""


def print_error(error: AscendServeError) -> None:
    """Print what was wrong and what to do next to the standard error stream."""
    stderr.print(f"[bold red]error:[/] {escape(error.problem)}")
    if error.remedy:
        stderr.print(f"[bold green]next:[/]  {escape(error.remedy)}")


def print_warning(text: str) -> None:
    """Print a warning to the standard error stream."""
    stderr.print(f"[bold yellow]warning:[/] {escape(text)}")


class WarningHandler(logging.Handler):
    """Shows log records of our packages in the form of `print_warning`."""

    def emit(self, record: logging.LogRecord) -> None:
        print_warning(record.getMessage())


def show_warnings() -> None:
    """Show warnings that our packages log, once each, in the form of `print_warning`."""
    logger = logging.getLogger("ascend_serve")
    if not any(isinstance(handler, WarningHandler) for handler in logger.handlers):
        logger.addHandler(WarningHandler(logging.WARNING))
        logger.propagate = False
