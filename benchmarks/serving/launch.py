"""Starts a system, waits for its first token, and ends it with all of its processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from ascend_serve.cluster.processes import end_descendants
from benchmarks.serving.systems import MODEL, Start, environment

START_SECONDS = 300.0
"""How long a start may take; the compiled peers take a minute or two with cold caches."""

_END_SECONDS = 60.0
_LOOK_SECONDS = 0.1


class StartFailed(Exception):
    """A system that did not come to its first token, with the reason."""


@dataclass(frozen=True)
class Running:
    """A system that serves.

    Attributes:
        url: Where it answers.
        pid: The process that was started.
        start_seconds: From the command to the first token.
    """

    url: str
    pid: int
    start_seconds: float


@contextlib.contextmanager
def running(start: Start, port: int, output: Path, limit: float = START_SECONDS) -> Iterator[Running]:
    """Run a system in the block; its output goes to a file.

    Raises:
        StartFailed: It ended, or gave no token in time.
    """
    began = time.monotonic()
    with output.open("w") as file:
        process = subprocess.Popen(
            start.command, stdout=file, stderr=subprocess.STDOUT, env=environment(start), process_group=0
        )
    try:
        _wait_for_a_token(process, port, began + limit, output)
        yield Running(f"http://127.0.0.1:{port}", process.pid, time.monotonic() - began)
    finally:
        _end(process)


def _wait_for_a_token(process: subprocess.Popen[bytes], port: int, deadline: float, output: Path) -> None:
    with httpx.Client(timeout=30.0, trust_env=False) as client:
        while not _gives_a_token(client, port):
            if process.poll() is not None:
                raise StartFailed(f"it ended with exit code {process.returncode}: {last_words(output.read_text())}")
            if time.monotonic() > deadline:
                raise StartFailed(f"no token in {START_SECONDS:.0f} s: {last_words(output.read_text())}")
            time.sleep(_LOOK_SECONDS)


def _gives_a_token(client: httpx.Client, port: int) -> bool:
    """Whether a streamed request gives its first token now."""
    request = {"model": MODEL, "prompt": "Hello", "max_tokens": 2, "stream": True, "ignore_eos": True, "temperature": 0}
    with (
        contextlib.suppress(httpx.TransportError),
        client.stream("POST", f"http://127.0.0.1:{port}/v1/completions", json=request) as answer,
    ):
        return answer.is_success and any('"choices"' in line for line in answer.iter_lines())
    return False


def last_words(output: str) -> str:
    """The line of an output that says best why a system ended: its last error, or its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() and "Traceback" not in line]
    return (errors or lines or ["no output"])[-1][:300]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C, as in a terminal; whoever is left after a while is ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_SECONDS)
    end_descendants()
