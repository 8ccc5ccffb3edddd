"""Entry point of the ``ascend-serve`` command: its subcommands, and what happens to their errors."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ascend_serve.cli.output import print_error, show_warnings
from ascend_serve.errors import AscendServeError

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of SIGINT, as shells have it."""

COMMANDS: Mapping[str, str] = {
    "bench": "ascend_serve.cli.bench",
    "config": "ascend_serve.cli.config",
    "demo": "ascend_serve.cli.demo",
    "doctor": "ascend_serve.cli.doctor",
    "generate": "ascend_serve.cli.generate",
    "init": "ascend_serve.cli.init",
    "install": "ascend_serve.cli.install",
    "logs": "ascend_serve.cli.logs",
    "plan": "ascend_serve.cli.plan",
    "profile": "ascend_serve.cli.profile",
    "report": "ascend_serve.cli.report",
    "requirements": "ascend_serve.cli.requirements",
    "serve": "ascend_serve.cli.serve",
    "status": "ascend_serve.cli.status",
    "static-kernels": "ascend_serve.cli.static_kernels",
}
"""Subcommands and their modules; each module has a function named like the command."""

_EPILOG = """
Examples:

ascend-serve demo

ascend-serve serve demo graph.mode=FULL

ascend-serve generate demo --input prompts.jsonl --output out.jsonl

ascend-serve plan qwen3-32b parallel.tensor_parallel_size=4

ascend-serve config demo serving.port=8001 --origins
"""


class _LazyCommands(Mapping[str, Any]):
    """Imports the module of a command when it is looked up, so that no command waits for what it does not use."""

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)

    def __getitem__(self, name: str) -> Any:
        function = getattr(import_module(COMMANDS[name]), name.replace("-", "_"))
        command = typer.Typer(add_completion=False)
        command.command(name)(function)
        return typer.main.get_command(command)


class _LazyGroup(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = _LazyCommands()


app = typer.Typer(cls=_LazyGroup, no_args_is_help=True, pretty_exceptions_enable=False, epilog=_EPILOG)


def _print_version(wanted: bool) -> None:
    if wanted:
        from ascend_serve.cli.version import version_text

        typer.echo(version_text())
        raise typer.Exit


@app.callback()
def _ascend_serve(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Serve large language models on Ray clusters of Ascend NPUs, with graph mode that holds on every rank."""
    show_warnings()


def main() -> None:
    """Run the command; an error that a user can act on ends it with problem, remedy and its exit code, no traceback."""
    try:
        app()
    except AscendServeError as error:
        print_error(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
