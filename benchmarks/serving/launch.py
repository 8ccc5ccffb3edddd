"""Starts a system, waits for its first token, and ends it with all of its processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
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
    """Run a system in the block, once all of it serves; its output goes to a file.

    Raises:
        StartFailed: It ended, or did not serve in time.
    """
    began = time.monotonic()
    with output.open("w") as file:
        process = subprocess.Popen(
            start.command, stdout=file, stderr=subprocess.STDOUT, env=environment(start), process_group=0
        )
    try:
        with httpx.Client(timeout=30.0, trust_env=False) as client:
            _wait(process, lambda: _gives_a_token(client, port), began + limit, output)
        seconds = time.monotonic() - began
        _wait(process, lambda: start.ready in output.read_text(), began + limit, output)
        yield Running(f"http://127.0.0.1:{port}", process.pid, seconds)
    finally:
        _end(process)


def _wait(process: subprocess.Popen[bytes], is_there: Callable[[], bool], deadline: float, output: Path) -> None:
    while not is_there():
        if process.poll() is not None:
            raise StartFailed(f"it ended with exit code {process.returncode}: {last_words(output.read_text())}")
        if time.monotonic() > deadline:
            raise StartFailed(f"it does not serve after {START_SECONDS:.0f} s: {last_words(output.read_text())}")
        time.sleep(_LOOK_SECONDS)


def _gives_a_token(client: httpx.Client, port: int) -> bool:
    """Whether a streamed request gives its first token now."""
    request = {"model": MODEL, "prompt": "Hello", "max_tokens": 2, "stream": True, "ignore_eos": True, "temperature": 0}
    url = f"http://127.0.0.1:{port}/v1/completions"
    with (
        contextlib.suppress(httpx.TransportError),
        client.stream("POST", url, json=request) as answer,
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
