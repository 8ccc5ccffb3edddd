"""What is left on a machine after a deployment: no process, no shared memory, no file, however it came to its end."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.command import Command
from tests.e2e.ray_head import RayHead, ray_head
from tests.patience import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.slow

RESTARTS = 3


def shared_memory() -> set[str]:
    """Names in shared memory, but for those of other runs' rings, which say whose they are."""
    return set(os.listdir("/dev/shm"))


@dataclass
class Traces:
    """What a deployment on a cluster that others have started adds to its machine.

    Attributes:
        head: The cluster.
        temporary: The folder for temporary files of all its processes.
    """

    head: RayHead
    temporary: Path
    _files: set[Path] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._files = set(self.temporary.iterdir())

    def left(self) -> list[str]:
        """Processes that run our code, files of theirs, and shared memory of which no living process has a part."""
        files = {path for path in self.temporary.iterdir() if not path.name.startswith("torchinductor_")}
        return [*self.head.processes(), *map(str, files - self._files), *self._memory()]

    def _memory(self) -> list[str]:
        """Rings of vLLM's message queues that processes of this cluster have made."""
        return sorted(name for name in shared_memory() if name.startswith("psm_") and name in SEEN)


SEEN: set[str] = set()
"""Rings that appeared while a process of a cluster of these tests had them open."""


@pytest.fixture(scope="module")
def traces() -> Iterator[Traces]:
    temporary = Path(tempfile.mkdtemp(prefix="tmp-", dir="/tmp"))
    with ray_head(2, {"TMPDIR": str(temporary), "ASCEND_SERVE_EMULATED_NPU": "1"}) as head:
        yield Traces(head, temporary)
    shutil.rmtree(temporary)


def on_given(start: Callable[..., Command], traces: Traces, *overrides: str) -> Command:
    return start(*overrides, env=traces.head.env | {"RAY_ADDRESS": traces.head.address})


def look(traces: Traces) -> None:
    """Note the rings that processes of the cluster have open now."""
    for process in traces.head.process.children(recursive=True):
        try:
            maps = Path(f"/proc/{process.pid}/maps").read_text()
        except OSError:
            continue
        SEEN.update(name for name in shared_memory() if f"/dev/shm/{name}" in maps)


def kill_rank(url: str, rank: int) -> None:
    """Kill a rank, and wait until another engine answers."""
    before = httpx.get(f"{url}/graph/report", timeout=PATIENCE_SECONDS).json()["ranks"][rank]["pid"]
    os.kill(before, signal.SIGKILL)
    assert wait_until(lambda: _pid(url, rank) not in (before, None))
    body = {"model": "demo", "prompt": "Hello", "max_tokens": 4}
    assert wait_until(lambda: httpx.post(f"{url}/v1/completions", json=body, timeout=PATIENCE_SECONDS).is_success)


def _pid(url: str, rank: int) -> int | None:
    report = httpx.get(f"{url}/graph/report", timeout=PATIENCE_SECONDS).json()
    ranks = report["ranks"]
    return int(ranks[rank]["pid"]) if report["recovering_since"] is None and len(ranks) > rank else None


def test_a_start_that_fails_on_a_given_cluster(start: Callable[..., Command], traces: Traces) -> None:
    fault = "emulated.faults=[{rank: 1, phase: capture, size: 2, error: unknown}]"
    command = on_given(start, traces, "graph.on_failure=fail", fault)
    while command.process.poll() is None:
        look(traces)
        time.sleep(0.2)
    assert command.process.returncode == 1
    assert "kept:" in command.text()
    assert wait_until(lambda: not traces.left()), traces.left()


def test_ranks_that_are_killed_on_a_given_cluster_and_a_clean_end(
    start: Callable[..., Command], traces: Traces
) -> None:
    command = on_given(start, traces)
    command.wait_for("curl ")
    url = f"http://127.0.0.1:{command.port}"
    for restart in range(RESTARTS):
        look(traces)
        kill_rank(url, restart % 2)
    look(traces)
    assert command.end(signal.SIGINT) == 130
    assert wait_until(lambda: not traces.left()), traces.left()


def test_a_replica_that_is_killed_on_a_given_cluster(start: Callable[..., Command], traces: Traces) -> None:
    command = on_given(start, traces)
    command.wait_for("curl ")
    look(traces)
    replica = next(process for process in traces.head.process.children(recursive=True) if _is_replica(process))
    replica.kill()
    command.wait_for("demo: replica ended: its worker process ended without a trace, as by SIGKILL")
    command.wait_for("What was known of it is in ")
    assert wait_until(lambda: "demo answers again" in command.text())
    look(traces)
    assert command.end(signal.SIGINT) == 130
    assert wait_until(lambda: not traces.left()), traces.left()


def _is_replica(process: psutil.Process) -> bool:
    try:
        return "ServeReplica:demo" in " ".join(process.cmdline())
    except psutil.Error:
        return False


@pytest.mark.parametrize("phase", ["logs:", "cluster: ", "load: ", "capture: ", "curl "])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "kill -9"])
def test_a_command_with_its_own_cluster_in_each_phase(
    start: Callable[..., Command], phase: str, number: signal.Signals
) -> None:
    command = start()
    command.wait_for(phase)
    command.look()
    assert command.end(number) in (143, -signal.SIGKILL)
    assert wait_until(lambda: not command.left_behind()), command.left_behind()
