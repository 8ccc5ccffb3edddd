"""A node dies while serving: the replica comes back on a spare one, and on one that joins later."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.command import Command
from tests.e2e.conftest import COMMAND, free_port
from tests.e2e.ray_head import RayHead, kill, ray_head

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PATIENCE_SECONDS = 240.0
CLIENTS = 4


@dataclass
class Clients:
    """Clients that ask again and again, each whole and streamed, and what they were answered.

    Attributes:
        url: Of the server.
        outcomes: How often an answer was ``right``, a clean ``error``, or something else that is spelled out.
        right: When the last right answer came, in seconds of the monotonic clock.
    """

    url: str
    outcomes: Counter[str] = field(default_factory=Counter)
    right: float = 0.0

    def __post_init__(self) -> None:
        self._expected = {number: self._whole(number)[1] for number in range(CLIENTS)}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let the requests in flight end, all of them in time."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=90)
            assert not thread.is_alive(), "a request hangs"

    def wait_for_answer(self, since: float) -> float:
        """Wait for a right answer to a request, and tell how many seconds after ``since`` it came."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.right <= since:
            assert time.monotonic() < deadline, f"nothing is answered any more: {self.outcomes}"
            time.sleep(0.1)
        return self.right - since

    def _ask(self, number: int) -> None:
        while not self._stop.is_set():
            kind = self._streamed if number % 2 else self._whole
            try:
                outcome, text = kind(number)
            except httpx.TransportError as error:
                outcome, text = f"connection lost: {error!r}", ""
            if outcome == "right" and text != self._expected[number]:
                outcome = f"wrong: {text!r}"
            if outcome == "right":
                self.right = time.monotonic()
            else:
                time.sleep(0.2)
            self.outcomes[outcome] += 1

    def _body(self, number: int) -> dict[str, object]:
        return {"model": "demo", "prompt": f"request {number}", "max_tokens": 32, "temperature": 0, "ignore_eos": True}

    def _whole(self, number: int) -> tuple[str, str]:
        response = httpx.post(f"{self.url}/v1/completions", json=self._body(number), timeout=60)
        if response.is_success:
            return "right", response.json()["choices"][0]["text"]
        return ("error" if response.status_code >= 500 else f"status {response.status_code}"), ""

    def _streamed(self, number: int) -> tuple[str, str]:
        body = self._body(number) | {"stream": True}
        with httpx.stream("POST", f"{self.url}/v1/completions", json=body, timeout=60) as response:
            if not response.is_success:
                return ("error" if response.status_code >= 500 else f"status {response.status_code}"), ""
            return self._read(line.removeprefix("data: ") for line in response.iter_lines() if line)

    @staticmethod
    def _read(events: Iterator[str]) -> tuple[str, str]:
        text, seen = "", []
        for event in events:
            seen.append(event)
            if event != "[DONE]" and "choices" in (chunk := json.loads(event)):
                text += chunk["choices"][0]["text"]
        failed = any('"error"' in event for event in seen)
        if failed:
            return "error", text
        return ("right" if seen[-1:] == ["[DONE]"] else "cut without an end"), text


@pytest.fixture
def cluster() -> Iterator[RayHead]:
    with ray_head(npus=0) as head:
        yield head


def serve(head: RayHead, config: Path, output: Path, port: int) -> Command:
    env = head.env | {"RAY_ADDRESS": head.address}
    with output.open("w") as file:
        process = subprocess.Popen(
            [*COMMAND, "serve", config], stdout=file, stderr=subprocess.STDOUT, process_group=0, text=True, env=env
        )
    return Command(process, output, port)


def processes_of(node: psutil.Process) -> list[psutil.Process]:
    return [node, *node.children(recursive=True)]


def test_a_lost_node_is_replaced(cluster: RayHead, config: Callable[[int], Path], tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as nodes:
        first = nodes.enter_context(cluster.node(npus=2))
        command = serve(cluster, config(port), tmp_path / "output", port)
        nodes.callback(lambda: command.process.poll() is None and command.end(signal.SIGINT))
        command.wait_for("curl ")
        spare = nodes.enter_context(cluster.node(npus=2))
        clients = Clients(f"http://127.0.0.1:{port}")
        nodes.callback(clients.stop)

        lost = time.monotonic()
        kill(processes_of(first))
        seconds = [clients.wait_for_answer(lost + 1)]

        lost = time.monotonic()
        kill(processes_of(spare))
        nodes.enter_context(cluster.node(npus=2))
        seconds.append(clients.wait_for_answer(lost + 1))

        clients.stop()
        print(f"serving again after {seconds} s; {dict(clients.outcomes)}")
        assert set(clients.outcomes) <= {"right", "error"}
        assert command.end(signal.SIGINT) == 130
    assert "answers again" in command.text()
