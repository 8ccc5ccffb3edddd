"""What clients see of processes that end under them, and how soon they go on.

``python -m benchmarks.recovery_serving [--kills N] [--minutes M] [--pairs P] [key=value ...]`` starts ``ascend-serve
serve configs/demo.yaml`` (TP 2 on emulated NPUs, float32) with 8 clients that stream greedy answers. N times, once the
spares wait, the worker process of rank 1 is killed: the time is that from the kill to the first new token of any
client. Then, for M minutes, a process of a random kind is killed or stopped every 30 seconds, whatever became of the
one before. Last, P times, processes of two random kinds are killed at once, on another server where the one before has
ended. Every reply is judged by the text of an undisturbed server, and belongs to the last fault before its end. After
Ctrl-C what is left behind is printed.
"""

from __future__ import annotations

import math
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.table import Table

from ascend_serve.node.user_files import compiler_cache
from benchmarks.command_line import console
from benchmarks.victims import ENDS_A_LOCAL_CLUSTER, Fault, hit, hit_together
from tests.e2e.command import Command
from tests.e2e.conftest import COMMAND
from tests.e2e.load import Load, Reply, Verdict
from tests.ports import free_port

CONFIG = Path(__file__).parents[1] / "configs" / "demo.yaml"
PATIENCE_SECONDS = 180.0
RANKS = 2
TOKENS = 150
OVERRIDES = (
    # In bfloat16 batches of different sizes, and prefill and decode, round differently.
    "vllm.dtype=float32",
    # Answers take seconds, and are under way when something ends.
    "emulated.device_time.fixed=20",
    "serving.health.stall_seconds=15",
)

_BUSY_SECONDS = 5.0
"""Load before each kill."""
_KILL_SECONDS = 30.0
_HANG_SECONDS = 60.0
_WAKE_SECONDS = 45.0
"""A worker that was stopped goes on when another has taken its place."""
_SETTLE_SECONDS = 60.0
_STEADY_SECONDS = 2.0
"""A server that serves gives out tokens more often by far."""
_ERROR = re.compile(r"^error: .*$", re.MULTILINE)
PAIRS = tuple(combinations((fault for fault in Fault if fault is not Fault.STOPPED), 2))
"""All that can be killed at once."""
_SPARES = re.compile(r"^ascend_serve_spare_workers (\S+)", re.MULTILINE)


def start(
    output: Path, *overrides: str, temporary: Path | None = None, environment: Mapping[str, str] | None = None
) -> Command:
    """Start the server in a process group of its own.

    Args:
        output: Where it writes to.
        overrides: More of the configuration.
        temporary: A folder for its temporary files, which is its alone.
        environment: What it finds in its environment besides.
    """
    port = free_port()
    folder = temporary or Path(tempfile.gettempdir())
    with output.open("w") as file:
        process = subprocess.Popen(
            [*COMMAND, "serve", CONFIG, f"serving.port={port}", *overrides],
            stdout=file,
            stderr=subprocess.STDOUT,
            process_group=0,
            text=True,
            env={**os.environ, "TMPDIR": str(folder), **(environment or {})},
        )
    return Command(process, output, port, folder)


@dataclass(frozen=True)
class Hit:
    """A fault that has happened.

    Attributes:
        moment: When, on the monotonic clock.
        fault: Which.
        pid: The process that it has hit.
    """

    moment: float
    fault: Fault
    pid: int


@dataclass(frozen=True)
class Strike:
    """Two processes that were killed at once, and what came of it.

    Attributes:
        faults: Which.
        silence: The longest time without a token of any client.
        replies: Those that ended until tokens came steadily again, or the server had ended.
        ended: When and why the server ended; empty where it serves on.
    """

    faults: tuple[Fault, Fault]
    silence: float
    replies: Sequence[Reply]
    ended: str


def main(
    overrides: Annotated[list[str] | None, typer.Argument(help="More of the configuration.")] = None,
    kills: Annotated[int, typer.Option(help="Workers that are killed one after the other, and timed.")] = 5,
    minutes: Annotated[float, typer.Option(help="How long processes of random kinds are killed then.")] = 0.0,
    pairs: Annotated[int, typer.Option(help="Two kinds, of which processes are killed at once.", max=len(PAIRS))] = 0,
    seed: Annotated[int, typer.Option(help="Of the order of those kinds.")] = 0,
) -> None:
    """Kill, measure, judge, print."""
    given = [*OVERRIDES, *(overrides or [])]
    if kills or minutes:
        kill_one_by_one(given, kills, 60 * minutes, random.Random(seed))
    if pairs:
        show_strikes(strike_pairs(random.Random(seed).sample(PAIRS, pairs), given))


def kill_one_by_one(overrides: Sequence[str], kills: int, seconds: float, chance: random.Random) -> None:
    """Kill workers and time that, then processes of all kinds for some seconds, and print what clients saw."""
    spares = 0 if "serving.recovery.spares=false" in overrides else RANKS
    with served(*overrides) as command:
        load = Load(command.url, streams=1, tokens=TOKENS, patience=PATIENCE_SECONDS)
        if kills:
            with load.running():
                times = [kill_and_wait(load, command, spares) for _ in range(kills)]
            show_times(times, load.replies)
        if seconds:
            with load.running():
                hits = kill_on(command, seconds, chance)
            show_hits(hits, load.replies, load.token_times)
        show_engines(command.url)


@contextmanager
def served(*overrides: str) -> Iterator[Command]:
    """A server with a folder of its own for temporary files; what it leaves behind there and elsewhere is printed."""
    temporary = Path(tempfile.mkdtemp(prefix="recovery-", dir="/tmp"))
    with tempfile.TemporaryDirectory() as folder:
        caches = compiler_cache([Path(tempfile.gettempdir())])
        command = start(Path(folder) / "output", *overrides, temporary=temporary, environment=caches)
        try:
            command.wait_for("curl ")
            yield command
        finally:
            if command.process.poll() is None:
                command.end(signal.SIGINT)
    console.print("left behind:", command.left_behind() or "nothing")
    shutil.rmtree(command.temporary)


def kill_and_wait(load: Load, command: Command, spares: int) -> float:
    """Kill the worker of rank 1 when ``spares`` wait, and measure the seconds to the first new token."""
    time.sleep(_BUSY_SECONDS)
    wait_for_spares(command, spares)
    moment = time.monotonic()
    hit(Fault.WORKER, command, rank=1)
    return load.wait_for_token(moment, PATIENCE_SECONDS)


def kill_on(command: Command, seconds: float, chance: random.Random) -> list[Hit]:
    """Let a fault of a random kind happen every 30 seconds; each kind comes as often as any other."""
    until = time.monotonic() + seconds
    hits: list[Hit] = []
    for fault in _faults(chance):
        _watch(command, hits, min(until, time.monotonic() + _KILL_SECONDS))
        if time.monotonic() >= until:
            break
        moment = time.monotonic()
        if (pid := hit(fault, command, chance.randrange(RANKS))) is not None:
            hits.append(Hit(moment, fault, pid))
            console.print(f"{seconds - until + moment:6.1f} s: {fault}, process {pid}")
    _watch(command, hits, time.monotonic() + _SETTLE_SECONDS)
    return hits


def _faults(chance: random.Random) -> Iterator[Fault]:
    kinds = [fault for fault in Fault if fault not in ENDS_A_LOCAL_CLUSTER]
    while True:
        yield from chance.sample(kinds, len(kinds))


def strike_pairs(pairs: Sequence[tuple[Fault, Fault]], overrides: Sequence[str]) -> Iterator[Strike]:
    """Kill two processes at once, pair after pair; a server serves on until it ends."""
    waiting = list(pairs)
    while waiting:
        with served(*overrides) as command:
            load = Load(command.url, streams=1, tokens=TOKENS, patience=PATIENCE_SECONDS)
            with load.running():
                while waiting and command.process.poll() is None:
                    time.sleep(_BUSY_SECONDS)
                    if (strike := strike_both(waiting.pop(), command, load)) is not None:
                        yield strike


def strike_both(faults: tuple[Fault, Fault], command: Command, load: Load) -> Strike | None:
    """Kill two processes at once, and look until tokens come steadily again or the server has ended."""
    command.look()
    moment = time.monotonic()
    if not hit_together(faults, command):
        console.print(f"{' and '.join(faults)}: not there just now")
        return None
    while time.monotonic() < moment + PATIENCE_SECONDS and command.process.poll() is None:
        command.look()
        time.sleep(1)
        now = time.monotonic()
        goes_on = bool(load.token_times) and load.token_times[-1] > now - _STEADY_SECONDS
        if now > moment + _KILL_SECONDS and goes_on:
            break
    now = time.monotonic()
    ended = ""
    if command.process.poll() is not None:
        error = _ERROR.search(command.text())
        ended = f"after {now - moment:.0f} s: {error[0] if error else 'no cause'}"
    theirs = [reply for reply in load.replies.copy() if moment <= reply.ended < now]
    strike = Strike(faults, _silence(load.token_times.copy(), moment, now), theirs, ended)
    console.print(f"{' and '.join(faults)}: {strike.silence:.1f} s without a token {ended}", markup=False)
    return strike


def _watch(command: Command, hits: Sequence[Hit], until: float) -> None:
    """Note the processes that there are, and wake those that were stopped long ago."""
    while time.monotonic() < until:
        command.look()
        for each in hits:
            if each.fault is Fault.STOPPED and each.moment + _WAKE_SECONDS < time.monotonic():
                with suppress(ProcessLookupError):
                    os.kill(each.pid, signal.SIGCONT)
        time.sleep(1)


def wait_for_spares(command: Command, number: int) -> None:
    """Wait until so many spare worker processes wait."""
    until = time.monotonic() + PATIENCE_SECONDS
    while _spares(command.url) < number and time.monotonic() < until:
        time.sleep(1)


def _spares(url: str) -> float:
    with suppress(httpx.HTTPError):
        found = _SPARES.search(httpx.get(f"{url}/metrics", timeout=PATIENCE_SECONDS).text)
        return float(found[1]) if found else 0.0
    return 0.0


def show_times(seconds: Sequence[float], replies: Sequence[Reply]) -> None:
    """Print how long the clients waited, and what their replies were worth."""
    table = Table("kill to first new token", "seconds")
    table.add_row("each", ", ".join(f"{value:.1f}" for value in seconds))
    table.add_row("median", f"{statistics.median(seconds):.1f}")
    console.print(table)
    show_replies(replies)


def show_replies(replies: Sequence[Reply]) -> None:
    """Print what all were worth, and how many streams came as a whole."""
    console.print(_worth(replies))
    at_once = sum(reply.is_at_once for reply in replies if reply.verdict is Verdict.RIGHT)
    console.print(f"{at_once} right streams gave out no token before the last tenth of their time")


def show_hits(hits: Sequence[Hit], replies: Sequence[Reply], tokens: Sequence[float]) -> None:
    """Print what clients saw of each kind of fault."""
    columns = ("fault", "times", "median s without a token", "most", "replies that were not right", "hangs")
    table = Table(*columns, title=f"{len(hits)} faults, {len(replies)} replies")
    moments = [each.moment for each in hits]
    for fault in Fault:
        numbers = [number for number, each in enumerate(hits) if each.fault is fault]
        if not numbers:
            continue
        spans = [(moments[number], (*moments, math.inf)[number + 1]) for number in numbers]
        silent = [_silence(tokens, *span) for span in spans]
        theirs = [reply for reply in replies if any(begin <= reply.ended < end for begin, end in spans)]
        hangs = sum(reply.longest_wait > _HANG_SECONDS for reply in theirs)
        wrong = [reply for reply in theirs if reply.verdict is not Verdict.RIGHT]
        median, most = (f"{value:.1f}" for value in (statistics.median(silent), max(silent)))
        table.add_row(fault.value, str(len(numbers)), median, most, _worth(wrong), str(hangs))
    console.print(table)
    show_replies(replies)


def show_strikes(strikes: Iterable[Strike]) -> None:
    """Print what clients saw of each pair."""
    table = Table("killed at once", "s without a token", "replies that were not right", "right", "hangs", "ended")
    for strike in strikes:
        wrong = [reply for reply in strike.replies if reply.verdict is not Verdict.RIGHT]
        hangs = sum(reply.longest_wait > _HANG_SECONDS for reply in strike.replies)
        right = len(strike.replies) - len(wrong)
        names = " + ".join(fault.removesuffix(" killed") for fault in strike.faults)
        silence = "" if strike.ended else f"{strike.silence:.1f}"
        table.add_row(names, silence, _worth(wrong), str(right), str(hangs), strike.ended)
    console.print(table)


def _worth(replies: Sequence[Reply]) -> str:
    return ", ".join(f"{number} {verdict}" for verdict, number in Counter(reply.verdict for reply in replies).items())


def _silence(tokens: Sequence[float], begin: float, end: float) -> float:
    """The longest time without a token of any client."""
    times = sorted(time for time in tokens if begin <= time < end)
    return max((later - earlier for earlier, later in pairwise((begin, *times))), default=math.inf)


def show_engines(url: str) -> None:
    """Print what the server tells of its engines."""
    report = httpx.get(f"{url}/graph/report", timeout=PATIENCE_SECONDS).json()
    console.print("phases of the last start:", report["seconds"])
    for event in report["events"]:
        if event["kind"].startswith(("engine", "restart")):
            console.print(f"{event['time']:.1f} {event['kind']}: {event['text']}", markup=False)


if __name__ == "__main__":
    typer.run(main)
