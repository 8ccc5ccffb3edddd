"""A Ray cluster of its own as an operator starts it: ``ray start``, token authentication, a home folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from tests.patience import wait_until
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

RAYS_OWN = frozenset({"ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent"})

SURVEY = """
import json, ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
print("SURVEY", json.dumps({
    "free_npus": ray.available_resources().get("NPU", 0),
    "actors": [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)],
    "nodes": [node["NodeID"] for node in ray.nodes()],
}))
"""


@dataclass(frozen=True)
class Survey:
    """What there is on a cluster.

    Attributes:
        free_npus: NPUs that nobody holds.
        actors: Names of the actors that have one.
        nodes: Ray's ids of all nodes, the dead ones too.
    """

    free_npus: float
    actors: list[str]
    nodes: list[str]


@dataclass(frozen=True)
class RayHead:
    """A head node that runs.

    Attributes:
        process: ``ray start --block``; its descendants are the cluster.
        env: Environment of commands that use the cluster.
        port: Of the control service.
        dashboard: Address of the dashboard, which takes jobs.
    """

    process: psutil.Process
    env: dict[str, str]
    port: int
    dashboard: str

    @property
    def address(self) -> str:
        """For ``RAY_ADDRESS``."""
        return f"127.0.0.1:{self.port}"

    def ray(self, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run ``ray`` with its output in one stream."""
        env = {**self.env, "RAY_ADDRESS": self.dashboard} if words[0] == "job" else self.env
        command = [str(BIN / "ray"), *words]
        return subprocess.run(
            command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )

    @contextlib.contextmanager
    def node(self, npus: int) -> Iterator[psutil.Process]:
        """Let another node join, a raylet of its own on this machine, and wait until it has."""
        before = len(self.survey().nodes)
        options = (f"--address={self.address}", "--num-gpus=0", "--num-cpus=4", f'--resources={{"NPU": {npus}}}')
        ports = (f"--dashboard-agent-listen-port={free_port()}", "--object-store-memory=268435456", "--block")
        with started([BIN / "ray", "start", *options, *ports], self.env, subprocess.DEVNULL) as process:
            wait_until(lambda: len(self.survey().nodes) > before)
            yield process

    def survey(self) -> Survey:
        """What there is on the cluster now."""
        env = {**self.env, "RAY_ADDRESS": self.address}
        done = subprocess.run([sys.executable, "-c", SURVEY], env=env, capture_output=True, text=True, check=True)
        line = next(line for line in done.stdout.splitlines() if line.startswith("SURVEY "))
        return Survey(**json.loads(line.removeprefix("SURVEY ")))

    def processes(self) -> list[str]:
        """Command lines of processes that run our code: workers of Ray that do something, and their children."""
        lines = []
        for child in self.process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                lines.append(" ".join(child.cmdline()).strip())
        ours = [line for line in lines if line.startswith(("ray::", "VLLM::", "python")) and line not in RAYS_OWN]
        return [*ours, *self.haproxies()]

    def haproxies(self) -> list[str]:
        """Command lines of HAProxy, whoever is its parent by now: the path of its configuration has a node's id."""
        nodes = self.survey().nodes
        lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
        return [line for line in lines if "haproxy.cfg" in line and any(node in line for node in nodes)]


def clean_environment(home: Path) -> dict[str, str]:
    """This process's environment without a cluster, with another home folder and tokens switched on."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = f"{BIN}:{kept['PATH']}"
    return kept | {"HOME": str(home), "PATH": path, "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}


@contextlib.contextmanager
def ray_head(npus: int, variables: Mapping[str, str] | None = None) -> Iterator[RayHead]:
    """Start a head node with ``npus`` NPUs, and end it with all that runs on it.

    Args:
        npus: How many it offers.
        variables: More of its environment.
    """
    # Paths of Unix sockets are limited to 107 characters, so the folder is near the root.
    folder = Path(tempfile.mkdtemp(prefix="as-head-", dir="/tmp"))
    env = clean_environment(folder) | dict(variables or {})
    port, dashboard = free_port(), free_port()
    options = [
        f"--port={port}",
        f"--dashboard-port={dashboard}",
        f"--ray-client-server-port={free_port()}",
        f"--dashboard-agent-listen-port={free_port()}",
        "--num-gpus=0",
        "--num-cpus=8",
        f'--resources={{"NPU": {npus}}}',
        f"--temp-dir={folder / 'ray'}",
        "--block",
    ]
    subprocess.run([BIN / "ray", "get-auth-token", "--generate"], env=env, check=True, capture_output=True)
    with (folder / "log").open("w") as log, started([BIN / "ray", "start", "--head", *options], env, log) as process:
        head = RayHead(process, env, port, f"http://127.0.0.1:{dashboard}")
        takes_jobs = wait_until(lambda: head.ray("job", "list").returncode == 0)
        assert takes_jobs, (folder / "log").read_text()
        yield head
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def started(
    command: Sequence[object], env: dict[str, str], log: IO[str] | int, cwd: Path | None = None
) -> Iterator[psutil.Popen]:
    """Run a command that blocks, and end it with all its descendants."""
    words = [str(word) for word in command]
    process = psutil.Popen(words, env=env, cwd=cwd, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            below = process.children(recursive=True)
            process.send_signal(signal.SIGTERM)
            psutil.wait_procs([process, *below], timeout=15)
            kill([process, *below])


def kill(processes: Sequence[psutil.Process]) -> None:
    """End processes at once, as a node ends that loses its power."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=15)
