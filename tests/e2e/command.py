"""A running command, for tests."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil
import pytest

from tests.patience import PATIENCE_SECONDS


@dataclass
class Command:
    """A running ``ascend-serve`` command with its output so far, and all processes that it ever had below it."""

    process: subprocess.Popen[str]
    output: Path
    port: int
    temporary: Path

    def __post_init__(self) -> None:
        self._seen: set[psutil.Process] = set()
        self._shared_memory: set[Path] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def text(self) -> str:
        return self.output.read_text()

    def wait_for(self, pattern: str) -> str:
        """Wait until ``pattern`` is in the output, and return the line."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            self.look()
            if found := re.search(f"^.*{pattern}.*$", self.text(), re.MULTILINE):
                return found[0]
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        pytest.fail(f"no {pattern!r}, exit code {self.process.poll()}, in:\n{self.text()}")

    def serving(self) -> Iterator[Self]:
        """For a fixture: wait until it serves, and after the tests make sure that Ctrl-C ends it and leaves nothing."""
        self.wait_for("curl ")
        yield self
        assert self.end(signal.SIGINT) == 130
        assert self.left_behind() == []

    def look(self) -> None:
        """Note the processes that there are now, and their shared memory."""
        self._seen |= set(self.processes())
        if new := set(Path("/dev/shm").iterdir()) - self._shared_memory:
            self._shared_memory |= new & {path for process in self._seen for path in _mapped(process)}

    def processes(self) -> list[psutil.Process]:
        """The processes below it."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def command_lines(self) -> list[str]:
        """What a process list shows of the processes that run now, itself included."""
        lines = []
        for process in {psutil.Process(self.process.pid), *self._seen}:
            with contextlib.suppress(psutil.Error):
                lines.append(" ".join(process.cmdline()))
        return lines

    def end(self, *signals: signal.Signals) -> int:
        """Send Ctrl-C to the whole group, as a terminal does, and others as `kill` does; return the exit code.

        Its output is printed, which pytest shows when the code is not the one that is asked for.
        """
        self.look()
        for number in signals:
            send = os.killpg if number == signal.SIGINT else os.kill
            send(self.process.pid, number)
            time.sleep(0.5)
        code = self.process.wait(PATIENCE_SECONDS)
        print(self.text())
        return code

    def left_behind(self) -> list[str]:
        """Processes of it that still run, and its shared memory and temporary files that are still there."""
        processes = [process for process in self._seen if process.is_running()]
        shared_memory = [path for path in self._shared_memory if path.exists()]
        return [*map(str, processes), *map(str, shared_memory), *map(str, self.temporary.rglob("*"))]


def _mapped(process: psutil.Process) -> list[Path]:
    with contextlib.suppress(OSError):
        return [Path(found) for found in re.findall(r"/dev/shm/\S+", Path(f"/proc/{process.pid}/maps").read_text())]
    return []
