"""What the command lines of the larger benchmarks share: their console, and lists of numbers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import typer
from rich.console import Console

Number = TypeVar("Number", int, float)

WIDTH = 200
"""Columns of the tables where the output is no terminal."""

console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)


def numbers(text: str, kind: Callable[[str], Number]) -> list[Number]:
    """The numbers of a list such as ``1,8,32``.

    Args:
        text: The list.
        kind: What each of them is: ``int`` or ``float``.

    Raises:
        typer.BadParameter: It is none.
    """
    try:
        return [kind(number) for number in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no list of numbers such as 1,8,32") from error
