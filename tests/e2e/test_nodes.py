"""A node dies while serving: the replica comes back on a spare one, and on one that joins later.

Where the replica was on another node, its clients get their answers as if nothing had happened.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.command import Command
from tests.e2e.conftest import COMMAND
from tests.e2e.load import Load, Verdict
from tests.e2e.ray_head import RayHead, kill, ray_head
from tests.patience import PATIENCE_SECONDS, wait_until
from tests.ports import free_port

pytestmark = pytest.mark.slow

BUSY_SECONDS = 5.0
TOKENS = 150
SPARES = "ascend_serve_spare_workers 3.0"
"""One for each rank, and one on the node without."""
FAIR = {Verdict.RIGHT, Verdict.CLEAN_ERROR, Verdict.BROKEN}
"""What a client may see: a stream whose replica is gone breaks off, which nobody takes for an end."""


WATCH = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "4",
    "RAY_health_check_timeout_ms": "5000",
}
"""How `launch/head.sh` has Ray look after its nodes."""


@pytest.fixture
def cluster() -> Iterator[RayHead]:
    """A head without NPUs, so that it never loses a rank."""
    with ray_head(npus=0, variables=WATCH) as head:
        yield head


@pytest.fixture
def serve(cluster: RayHead, config: Callable[[int], Path], tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts ``ascend-serve serve`` on the cluster, and ends it."""
    started: list[Command] = []

    def run(*overrides: str) -> Command:
        port, env = free_port(), cluster.env | {"RAY_ADDRESS": cluster.address}
        words = [*COMMAND, "serve", str(config(port)), *overrides]
        output = tmp_path / "output"
        with output.open("w") as file:
            process = subprocess.Popen(
                words, stdout=file, stderr=subprocess.STDOUT, process_group=0, text=True, env=env
            )
        started.append(Command(process, output, port, tmp_path / "temporary"))
        started[-1].wait_for("curl ")
        return started[-1]

    yield run
    for command in started:
        assert command.end(signal.SIGINT) == 130, command.text()


def lose(node: psutil.Process) -> float:
    """Take a node away, and tell when."""
    moment = time.monotonic()
    kill([node, *node.children(recursive=True)])
    return moment


def test_a_replica_comes_back_on_a_spare_node_and_on_a_new_one(cluster: RayHead, serve: Callable[..., Command]) -> None:
    with ExitStack() as nodes:
        first = nodes.enter_context(cluster.node(npus=2))
        command = serve()
        spare = nodes.enter_context(cluster.node(npus=2))
        load = Load(f"http://127.0.0.1:{command.port}", clients=4)
        with load.running():
            # A request that no replica has begun to answer only waits for the next one: no error would be seen.
            time.sleep(BUSY_SECONDS)
            on_spare = load.wait_until_back(lose(first), PATIENCE_SECONDS)
            time.sleep(BUSY_SECONDS)
            moment = lose(spare)
            nodes.enter_context(cluster.node(npus=2))
            on_new = load.wait_until_back(moment, PATIENCE_SECONDS)
            time.sleep(5)
        print(f"serving again after {on_spare:.0f} s and {on_new:.0f} s: {dict(load.verdicts())}")
        assert set(load.verdicts()) <= FAIR
        command.wait_for("answers again")


def test_requests_outlive_a_node_of_ranks_alone(cluster: RayHead, serve: Callable[..., Command]) -> None:
    with ExitStack() as stack:
        nodes = [stack.enter_context(cluster.node(npus=1)) for _ in range(2)]
        # In float32, or other batches round differently; slow, so that answers are under way when the node is lost.
        command = serve("vllm.dtype=float32", "emulated.device_time.fixed=20")
        stack.enter_context(cluster.node(npus=1))
        load = Load(command.url, clients=4, tokens=TOKENS)
        with load.running():
            assert wait_until(lambda: SPARES in httpx.get(f"{command.url}/metrics", timeout=PATIENCE_SECONDS).text)
            (lost, *_) = (node for node in nodes if not _has(node, "ServeReplica:demo"))
            seconds = load.wait_for_token(lose(lost), PATIENCE_SECONDS)
            time.sleep(BUSY_SECONDS)
        print(f"next token after {seconds:.1f} s: {dict(load.verdicts())}")
        events = httpx.get(f"{command.url}/graph/report").json()["events"]
        print(*(f"{event['kind']}: {event['text']}" for event in events if "engine" in event["kind"]))
        assert set(load.verdicts()) == {Verdict.RIGHT}


def _has(node: psutil.Process, name: str) -> bool:
    """Whether a process of a node is called so."""
    return any(name in " ".join(process.cmdline()) for process in node.children(recursive=True))
