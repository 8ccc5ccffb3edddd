"""``ascend-serve requirements``: what emulated NPUs need, for pip."""

from __future__ import annotations

import typer

from ascend_serve.config.shipped import CPU_LOCK


def requirements() -> None:
    """Print the pinned packages that emulated NPUs need beside torch, for pip.

    Install torch first, then these without their dependencies, because vLLM's own would bring packages that break it:

    pip install torch==2.13.0

    ascend-serve requirements | pip install --no-deps -r /dev/stdin
    """
    typer.echo(CPU_LOCK.read_text(encoding="utf-8"), nl=False)
