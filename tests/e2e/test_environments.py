"""Other people's machines: what a start does in each odd environment, and what is left when it is ended in one.

`make environments` runs the cases that start an engine, too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.command import Command
from tests.e2e.test_serve_ends import assert_nothing_is_left
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.timeout(3600)

slow = pytest.mark.slow

NAMELESS = ("unshare", "--user", "--map-user=12345", "--map-group=12345")
"""Runs a command as a user without a name, whom file modes stop."""


SERVE_SECONDS = 70.0


def with_shared_memory(mebibytes: int) -> tuple[str, ...]:
    """Runs a command with a ``/dev/shm`` of that size."""
    mount = f'mount -t tmpfs -o size={mebibytes}m tmpfs /dev/shm && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", mount, "sh")


READ_ONLY = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    'for place in /tmp "$HOME"; do mount --bind "$place" "$place"; done; mount -o remount,bind,ro / && exec "$@"',
    "sh",
)
"""Runs a command with a root that is read-only but for ``/tmp`` and the home, as the manifests for KubeRay do."""


@dataclass(frozen=True)
class Machine:
    """An odd machine.

    Attributes:
        inside: The command that makes it.
        env: Its variables; ``{tmp}`` stands for a folder of the test.
    """

    inside: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)

    def variables(self, folder: Path) -> dict[str, str]:
        """Its variables, with their folders made."""
        found = {name: value.format(tmp=folder) for name, value in self.env.items()}
        if "TMPDIR" in found:
            Path(found["TMPDIR"]).mkdir(parents=True, exist_ok=True)
        return found

    def skip_if_impossible(self) -> None:
        """Skip the test where this user may not make such a machine."""
        if self.inside:
            tried = subprocess.run([*self.inside, "true"], capture_output=True, text=True, check=False)
            if tried.returncode:
                pytest.skip(f"{' '.join(self.inside[:2])} is not permitted here: {tried.stderr.strip()}")


@contextmanager
def unreadable(file: Path) -> Iterator[None]:
    mode = file.stat().st_mode
    file.chmod(0)
    yield
    file.chmod(mode)


NO_COMPILER = {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": "{tmp}/cache"}
COMPILES = ("graph.npugraph_ex.enabled=true",)


@dataclass(frozen=True)
class Refusal:
    """What a start says on a machine where it cannot work.

    Attributes:
        machine: The machine.
        code: The exit code.
        words: What it says.
        hidden: A file of the model that nobody may read.
        overrides: What is asked for.
    """

    machine: Machine
    code: int
    words: tuple[str, ...]
    hidden: str = ""
    overrides: tuple[str, ...] = ()


REFUSED = {
    "no compiler and nothing compiled": Refusal(
        Machine(env=NO_COMPILER), 1, ("no-such-compiler is not on PATH", "install g++"), overrides=COMPILES
    ),
    "shared memory of Docker": Refusal(Machine(with_shared_memory(64)), 1, ("/dev/shm has 64 MiB", "248 MiB")),
    "200 MiB shared memory": Refusal(Machine(with_shared_memory(200)), 1, ("/dev/shm has 200 MiB", "248 MiB")),
    "weights of somebody else": Refusal(
        Machine(NAMELESS, {"HOME": "/proc"}), 2, ("may not read model.safetensors", "chmod"), "model.safetensors"
    ),
    "two things at once": Refusal(
        Machine(with_shared_memory(64), NO_COMPILER),
        1,
        ("2 problems", "/dev/shm has 64 MiB", "no-such-compiler"),
        overrides=COMPILES,
    ),
}


@pytest.mark.parametrize("refusal", REFUSED.values(), ids=REFUSED.keys())
def test_refused_before_anything_is_started(
    start: Callable[..., Command], config: Callable[[int], Path], tmp_path: Path, refusal: Refusal
) -> None:
    refusal.machine.skip_if_impossible()
    model = config(0).parent / "model"
    with unreadable(model / refusal.hidden) if refusal.hidden else nullcontext():
        command = start(*refusal.overrides, inside=refusal.machine.inside, env=refusal.machine.variables(tmp_path))
        assert command.process.wait(timeout=PATIENCE_SECONDS) == refusal.code
    text = command.text()
    assert [word for word in refusal.words if word not in text] == []
    assert "logs:" not in text
    assert "Traceback" not in text
    assert_nothing_is_left(command)


LONG = "t" * 95

SERVED = [
    pytest.param(Machine(with_shared_memory(256)), id="256 MiB shared memory"),
    pytest.param(Machine(env=NO_COMPILER), id="no compiler, and nothing to compile"),
    pytest.param(Machine(READ_ONLY), id="a root file system that is read-only"),
    pytest.param(Machine(env={"HOME": "{tmp}/missing"}), id="no home"),
    pytest.param(Machine(env={"HOME": "/proc"}), id="a home that cannot be written"),
    pytest.param(Machine(NAMELESS, {"HOME": "/proc"}), id="a user without name and home"),
    pytest.param(Machine(env={"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}), id="proxies"),
    pytest.param(Machine(env={"TMPDIR": "{tmp}/a b", "TORCHINDUCTOR_CACHE_DIR": ""}), id="TMPDIR with a space"),
    pytest.param(Machine(env={"TMPDIR": f"{{tmp}}/{LONG}"}), id="a long TMPDIR"),
    pytest.param(Machine(env={"ASCEND_RT_VISIBLE_DEVICES": "0"}), id="a visible device of other NPUs"),
]


@slow
@pytest.mark.parametrize("machine", SERVED)
def test_serves_and_leaves_nothing(start: Callable[..., Command], tmp_path: Path, machine: Machine) -> None:
    machine.skip_if_impossible()
    command = start(inside=machine.inside, env=machine.variables(tmp_path))
    line = command.wait_for("curl ")
    asked = subprocess.run(line, shell=True, capture_output=True, text=True, check=False, env=os.environ | machine.env)
    assert '"choices"' in asked.stdout, asked.stderr
    assert command.end(signal.SIGINT) == 130
    assert "Traceback" not in command.text()
    assert_nothing_is_left(command)
    assert not list(tmp_path.rglob("ascend-serve-*"))


ENDED = [
    pytest.param(pattern, number, id=f"{number.name} {when}")
    for when, pattern in {
        "before Ray": "",
        "while Ray starts": "RAY",
        "while Serve starts": "logs:",
        "while the model loads": "cluster: ",
        "while graphs are captured": "load: ",
        "while serving": "curl ",
    }.items()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
]


@slow
@pytest.mark.parametrize(("pattern", "number"), ENDED)
def test_nothing_is_left_whenever_it_is_ended(
    start: Callable[..., Command], pattern: str, number: signal.Signals
) -> None:
    command = start()
    if pattern == "RAY":
        wait_for_process(command, "gcs_server")
    elif pattern:
        command.wait_for(pattern)
    code = command.end(number)
    if number is signal.SIGKILL:
        assert code == -signal.SIGKILL
        wait_until(lambda: command.left_behind() == [])
    else:
        # Before its handlers are there, the signal itself ends it.
        assert code in ({128 + number} if pattern else {128 + number, -number})
        assert "***" not in command.text()
    assert_nothing_is_left(command)


@slow
def test_a_second_sigterm_does_not_wait_for_requests(start: Callable[..., Command]) -> None:
    command = start("serving.deployment={graceful_shutdown_timeout_s: 600}", "vllm.max_model_len=2048")
    command.wait_for("curl ")
    body = {"model": "demo", "prompt": "Hello", "max_tokens": 2000, "ignore_eos": True, "stream": True}
    with httpx.stream(
        "POST", f"http://127.0.0.1:{command.port}/v1/completions", json=body, timeout=PATIENCE_SECONDS
    ) as answer:
        next(answer.iter_lines())
        assert command.end(signal.SIGTERM, signal.SIGTERM) == 143
    assert_nothing_is_left(command)


@slow
def test_a_request_may_take_longer_than_serve_waits(start: Callable[..., Command]) -> None:
    """A minute; one rank stands still for longer than that."""
    command = start("serving.deployment={graceful_shutdown_timeout_s: 600}", "serving.health={stall_seconds: 600}")
    command.wait_for("curl ")
    (rank, *_) = [process for process in command.processes() if "WorkerProc" in " ".join(process.cmdline())]
    body = {"model": "demo", "prompt": "Hello", "max_tokens": 200, "ignore_eos": True, "stream": True}
    with httpx.stream("POST", f"http://127.0.0.1:{command.port}/v1/completions", json=body, timeout=300) as answer:
        lines = answer.iter_lines()
        next(lines)
        rank.suspend()
        command.process.send_signal(signal.SIGTERM)
        time.sleep(SERVE_SECONDS)
        rank.resume()
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert command.process.wait(timeout=PATIENCE_SECONDS) == 143
    assert "Traceback" not in command.text()
    assert_nothing_is_left(command)


def wait_for_process(command: Command, name: str) -> None:
    """Wait until the command has started a program of that name."""
    wait_until(lambda: any(name in line for line in _programs(command)))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _programs(command: Command) -> Iterator[str]:
    for process in command.processes():
        try:
            yield process.name()
        except psutil.NoSuchProcess:
            continue
