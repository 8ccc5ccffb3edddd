"""What a steady client waits beside one that asks for too much.

``python -m benchmarks.hostile [--only REGEX] [--seconds N] [key=value ...]`` serves ``configs/demo.yaml`` on one
emulated NPU with two API keys. One client asks one short greedy request after another; with the other key each request
of `tests.e2e.greedy` is asked for a while, one kind after the other. Printed are the longest and the median wait of the
steady client, how many of its texts differ, how long it takes until all is as before, by how much the replica's memory
grew, and what the others were told.
"""

from __future__ import annotations

import re
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.table import Table

from benchmarks.command_line import console
from benchmarks.recovery_serving import start
from benchmarks.victims import replica
from tests.e2e.command import Command
from tests.e2e.greedy import TABLE, Answer, Greed, ask
from tests.patience import PATIENCE_SECONDS

STEADY, GREEDY = "steady-client", "greedy-client"
_QUIET_SECONDS = 60.0
"""How long the engine may take to be rid of what was asked before."""
_CALM_SECONDS = 0.3
_ASKED_TOGETHER = 3
MIB = 2**20


@contextmanager
def server(*overrides: str) -> Iterator[Command]:
    """A server on one emulated NPU that knows two keys."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        keys.write_text(f"{STEADY}\n{GREEDY}\n")
        one = ("parallel.tensor_parallel_size=1", "emulated.npus=1", f"serving.api_key_file={keys}")
        command = start(Path(folder) / "output", *one, *overrides)
        try:
            command.wait_for("curl ")
            yield command
        finally:
            command.end(signal.SIGINT)


def bearer(key: str) -> dict[str, str]:
    """The header with a key."""
    return {"Authorization": f"Bearer {key}"}


class SteadyClient:
    """Asks one short request after another.

    Args:
        http: A client of the server, which has nothing else to do.
        seconds: How long it asks beside others.
    """

    def __init__(self, http: httpx.Client, seconds: float) -> None:
        self._http = http
        self._seconds = seconds
        self.first = self.answers()
        self._right = self.first[0].text

    def answers(self) -> list[Answer]:
        """What it gets for a while."""
        until = time.monotonic() + self._seconds
        got = [ask(self._http)]
        while time.monotonic() < until:
            got.append(ask(self._http))
        return got

    def seconds_to_calm(self) -> float:
        """How long it takes until several answers on end come as if nobody else asked."""
        begun = time.monotonic()
        while time.monotonic() < begun + _QUIET_SECONDS:
            if all(ask(self._http).seconds < _CALM_SECONDS for _ in range(_ASKED_TOGETHER)):
                break
        return time.monotonic() - begun

    def figures(self, got: list[Answer]) -> tuple[str, ...]:
        """Longest and median wait, number of answers, and of those with another text."""
        waits = [each.seconds for each in got]
        wrong = sum(each.text != self._right for each in got)
        return f"{max(waits):.2f}", f"{statistics.median(waits):.2f}", str(len(got)), str(wrong)


def main(
    overrides: Annotated[list[str] | None, typer.Argument(help="More of the configuration.")] = None,
    only: Annotated[str, typer.Option(help="A regular expression of the requests to try.")] = "",
    seconds: Annotated[float, typer.Option(help="How long each is asked.")] = 8.0,
) -> None:
    """Ask, measure, print."""
    table = Table("hostile request", "worst s", "median s", "answers", "other text", "calm after s", "MiB", "told")
    with server(*(overrides or [])) as command:
        url = f"http://127.0.0.1:{command.port}"
        with httpx.Client(base_url=url, headers=bearer(STEADY), timeout=PATIENCE_SECONDS) as http:
            steady = SteadyClient(http, seconds)
            table.add_row("nobody", *steady.figures(steady.first))
            for greed in (each for each in TABLE if re.search(only, each.name)):
                row = beside(greed, steady, url, command)
                table.add_row(*row)
                console.print(*row[:2], markup=False)
    console.print(table)


def beside(greed: Greed, steady: SteadyClient, url: str, command: Command) -> tuple[str, ...]:
    """What is measured beside one kind of request."""
    before = replica(command).memory_info().rss
    with greed.running(url, bearer(GREEDY)) as told:
        got = steady.answers()
    calm, grown = steady.seconds_to_calm(), replica(command).memory_info().rss - before
    said = ", ".join(f"{count} x {what}" for what, count in told.items())
    return (str(greed), *steady.figures(got), f"{calm:.1f}", f"{grown / MIB:+.0f}", said)


if __name__ == "__main__":
    typer.run(main)
