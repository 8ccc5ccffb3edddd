"""What ``serve run`` was asked: it calls a builder before it connects to Ray (``ray/serve/scripts.py``, 2.60.0)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import click

from ascend_serve.errors import AscendServeError


@dataclass(frozen=True, slots=True)
class ServeRun:
    """The command that is running.

    Attributes:
        address: The cluster that it will connect to; ``None`` where it was not told.
        runtime_env: Its runtime environment, but for the working directory, which Serve passes on itself.
    """

    address: str | None
    runtime_env: dict[str, Any]

    @classmethod
    def current(cls) -> Self | None:
        """The command that this process runs; ``None`` where it runs another one."""
        context = click.get_current_context(silent=True)
        if context is None:
            return None
        from ray.dashboard.modules.dashboard_sdk import parse_runtime_env_args
        from ray.serve.scripts import run

        if context.command is not run:
            return None
        options = context.params
        said = {name: options.get(name) for name in ("runtime_env", "runtime_env_json")}
        runtime_env = parse_runtime_env_args(**said)
        runtime_env.pop("working_dir", None)
        return cls(options.get("address"), runtime_env)

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Let the command end with what a user can act on, instead of a traceback."""
        try:
            yield
        except AscendServeError as error:
            raise click.ClickException(str(error)) from error
