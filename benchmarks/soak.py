"""What a server keeps of what it has answered: memory, file descriptors, files.

``python -m benchmarks.soak [--requests N] [--minutes M] [key=value ...]`` serves ``configs/demo.yaml`` on one emulated
NPU. First come N short requests, of all APIs; printed is how the replica's own memory (USS) grows after the first
2,000. Then, for M minutes, clients of all APIs, some that go, some that do not read and hostile ones ask at once, and
every two minutes a rank or the engine core is killed. When they have gone, memory and file descriptors of all processes
are held against those before, and after Ctrl-C what is left behind is printed.
"""

from __future__ import annotations

import itertools
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import psutil
import typer
from rich.table import Table

from ascend_serve.node.user_files import compiler_cache
from benchmarks.command_line import console
from benchmarks.hostile import MIB
from benchmarks.recovery_serving import PATIENCE_SECONDS, start
from benchmarks.victims import Fault, hit, own_memory, replica
from tests.e2e.command import Command
from tests.e2e.greedy import CHAT, COMPLETIONS, Greed, Manner
from tests.e2e.hostile import attacks

FIRST = 2000
"""Requests after which caches are full and pools have their size."""
CLIENTS = 8
_STEPS = 10
_KILL_SECONDS = 120.0
_SETTLE_SECONDS = 20.0

_HELLO = [{"role": "user", "content": "Hello"}]
SHORT: tuple[tuple[str, Mapping[str, Any]], ...] = (
    (COMPLETIONS, {"prompt": "Hello", "max_tokens": 2}),
    (COMPLETIONS, {"prompt": "Hello", "max_tokens": 2, "stream": True}),
    (COMPLETIONS, {"prompt": ["a", "b"], "max_tokens": 2, "n": 2, "logprobs": 2}),
    (COMPLETIONS, {"prompt": "Hello", "max_tokens": 2, "structured_outputs": {"choice": ["a", "b"]}}),
    (CHAT, {"messages": _HELLO, "max_tokens": 2}),
    (CHAT, {"messages": _HELLO, "max_tokens": 2, "stream": True}),
    ("/v1/responses", {"input": "Hello", "max_output_tokens": 2}),
    ("/v1/messages", {"messages": _HELLO, "max_tokens": 2}),
    ("/tokenize", {"prompt": "Hello"}),
    ("/detokenize", {"tokens": [5, 6]}),
    (COMPLETIONS, {"prompt": "Hello", "max_tokens": -1}),
)
"""One of each API, and one that is refused."""

GREEDY = (
    Greed("one that goes", COMPLETIONS, {"prompt": "a", "max_tokens": 900, "ignore_eos": True}, 3, Manner.GO),
    Greed("a stream that goes", CHAT, {"messages": _HELLO, "max_tokens": 900, "stream": True}, 3, Manner.GO),
    Greed("one not read", COMPLETIONS, {"prompt": "a", "n": 8, "logprobs": 20, "stream": True}, 3, Manner.NOT_READ),
)


@dataclass(frozen=True)
class Usage:
    """What the processes of one kind have together.

    Attributes:
        processes: How many there are.
        mib: Memory of their own.
        files: Open file descriptors.
    """

    processes: int = 0
    mib: float = 0.0
    files: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.processes + other.processes, self.mib + other.mib, self.files + other.files)


def main(
    overrides: Annotated[list[str] | None, typer.Argument(help="More of the configuration.")] = None,
    requests: Annotated[int, typer.Option(help="Short requests, after the first 2,000.")] = 20_000,
    minutes: Annotated[float, typer.Option(help="How long all kinds of clients ask.")] = 60.0,
) -> None:
    """Ask, kill, look, print."""
    with served(*(overrides or [])) as command:
        url = f"http://127.0.0.1:{command.port}"
        grow(url, command, requests)
        before = usages(command)
        verdicts = mix(url, command, minutes)
        time.sleep(_SETTLE_SECONDS)
        show(before, usages(command))
        console.print(dict(verdicts))
    console.print("left behind:", command.left_behind() or "nothing")
    shutil.rmtree(command.temporary)


@contextmanager
def served(*overrides: str) -> Iterator[Command]:
    """A server on one emulated NPU with a folder of its own for temporary files."""
    temporary = Path(tempfile.mkdtemp(prefix="soak-", dir="/tmp"))
    with tempfile.TemporaryDirectory() as folder:
        one = ("parallel.tensor_parallel_size=1", "emulated.npus=1")
        caches = compiler_cache([Path(tempfile.gettempdir())])
        command = start(Path(folder) / "output", *one, *overrides, temporary=temporary, environment=caches)
        try:
            command.wait_for("curl ")
            yield command
        finally:
            command.end(signal.SIGINT)


def grow(url: str, command: Command, requests: int) -> None:
    """Send short requests and print how the replica grows."""
    ask_all(url, FIRST)
    first = _own(replica(command))
    console.print(f"after the first {FIRST} short requests: the replica has {first:.1f} MiB")
    for step in range(1, _STEPS + 1):
        ask_all(url, requests // _STEPS)
        now = _own(replica(command))
        console.print(f"{step * requests // _STEPS} more: {now:.1f} MiB, {now / first - 1:+.2%}")


def ask_all(url: str, number: int) -> None:
    """Ask so many short requests, several at once."""
    numbers = itertools.count()
    with ThreadPoolExecutor(CLIENTS) as pool:
        for _ in range(CLIENTS):
            pool.submit(_ask_on, url, lambda: next(numbers) < number)


def _ask_on(url: str, goes_on: Callable[[], bool], told: Counter[str] | None = None) -> None:
    with httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as client:
        for path, body in itertools.cycle(SHORT):
            if not goes_on():
                return
            try:
                answer = client.post(path, json={"model": "demo", **body})
                said = f"{answer.status_code}"
            except httpx.HTTPError as error:
                said = type(error).__name__
            if told is not None:
                told[said] += 1


def mix(url: str, command: Command, minutes: float) -> Counter[str]:
    """Let all kinds of clients ask, and kill now and then; what the friendly ones were told."""
    told: Counter[str] = Counter()
    stop = threading.Event()
    with ExitStack() as stack:
        for greed in GREEDY:
            stack.enter_context(greed.running(url, {}))
        pool = stack.enter_context(ThreadPoolExecutor(CLIENTS + 1))
        stack.callback(stop.set)
        for _ in range(CLIENTS):
            pool.submit(_ask_on, url, lambda: not stop.is_set(), told)
        pool.submit(_attack, url, stop)
        _kill_on(command, time.monotonic() + 60 * minutes, told)
    return told


def _attack(url: str, stop: threading.Event) -> None:
    with httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as client:
        for attack in itertools.cycle(list(attacks())):
            if stop.is_set():
                return
            with suppress(httpx.HTTPError):
                client.request(attack.method, attack.path, content=attack.body, headers=attack.headers)


def _kill_on(command: Command, until: float, told: Counter[str]) -> None:
    for fault in itertools.cycle((Fault.WORKER, Fault.CORE)):
        time.sleep(max(0.0, min(_KILL_SECONDS, until - time.monotonic())))
        command.look()
        if time.monotonic() >= until:
            return
        if hit(fault, command) is not None:
            told[fault.value] += 1


def usages(command: Command) -> dict[str, Usage]:
    """What the processes below a command have, by their kind."""
    found: dict[str, Usage] = defaultdict(Usage)
    for process in command.processes():
        with suppress(psutil.Error, IndexError):
            found[_kind(process)] += Usage(1, _own(process), process.num_fds())
    return dict(found)


def _kind(process: psutil.Process) -> str:
    words = process.cmdline()
    return " ".join(Path(word).name for word in words[: 1 if len(words) == 1 or words[0].startswith("ray::") else 3])[
        :60
    ]


def _own(process: psutil.Process) -> float:
    """Memory that is the process's alone, in MiB."""
    return own_memory(process) / MIB


def show(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> None:
    """Print what there was and what there is."""
    table = Table("process", "number", "MiB", "growth", "open files", title="before and after the mix")
    for kind in sorted({*before, *after}):
        was, is_ = before.get(kind, Usage()), after.get(kind, Usage())
        grown = f"{is_.mib / was.mib - 1:+.1%}" if was.mib and is_.mib else ""
        pairs = ((was.processes, is_.processes), (round(was.mib), round(is_.mib)), (was.files, is_.files))
        number, mib, files = (f"{one} > {other}" for one, other in pairs)
        table.add_row(kind, number, mib, grown, files)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
