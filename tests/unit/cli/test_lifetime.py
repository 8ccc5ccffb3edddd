"""A command that starts processes, however it ends."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest

from tests.patience import PATIENCE_SECONDS

PROGRAM = """
import subprocess, sys, time
from ascend_serve.cli.lifetime import owned_processes
with owned_processes():
    child = subprocess.Popen(["sleep", "600"])
    print(child.pid, flush=True)
    time.sleep(600)
"""

TALKER = """
import sys, time
from pathlib import Path
from ascend_serve.cli.lifetime import owned_processes
with owned_processes():
    try:
        print("begun", flush=True)
        time.sleep(600)
    finally:
        print("a last word", flush=True)
        Path(sys.argv[1]).write_text("cleaned up")
"""

SLOW_CLEANER = """
import sys, time
from pathlib import Path
from ascend_serve.cli.lifetime import owned_processes
with owned_processes():
    try:
        print("begun", flush=True)
        time.sleep(600)
    finally:
        print("cleaning up", flush=True)
        time.sleep(1)
        Path(sys.argv[1]).write_text("cleaned up")
        if sys.argv[2]:
            raise RuntimeError("the other side is gone")
"""

SWALLOWER = """
import time
from ascend_serve.cli.lifetime import owned_processes
from ascend_serve.cluster.signals import is_end_asked
with owned_processes():
    try:
        print(is_end_asked(), flush=True)
        time.sleep(600)
    except BaseException:
        print(is_end_asked(), flush=True)
        raise RuntimeError("what was interrupted makes another error of it")
"""

PATIENT = """
import time
from ascend_serve.cli.lifetime import owned_processes
with owned_processes() as ending:
    try:
        print("begun", flush=True)
        time.sleep(600)
    finally:
        with ending.hurried():
            print("waiting", flush=True)
            time.sleep(600)
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_signal_ends_it_with_all_its_processes(number: signal.Signals, code: int) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.send_signal(number)
        assert process.wait(PATIENCE_SECONDS) == code
    assert not is_running(child)


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        pytest.param((signal.SIGINT, signal.SIGINT), 130, id="Ctrl-C twice"),
        pytest.param((signal.SIGHUP, signal.SIGHUP), 129, id="a terminal that is closed"),
        pytest.param((signal.SIGTERM, signal.SIGINT), 143, id="SIGTERM, then Ctrl-C"),
    ],
)
@pytest.mark.parametrize("fails", [False, True], ids=["", "which fails"])
def test_no_signal_cuts_the_cleaning_up_short(
    tmp_path: os.PathLike[str], numbers: Sequence[signal.Signals], code: int, fails: bool
) -> None:
    note = os.path.join(tmp_path, "note")
    words = [sys.executable, "-c", SLOW_CLEANER, note, "fails" if fails else ""]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for number in numbers:
            process.stdout.readline()
            process.send_signal(number)
        assert process.wait(PATIENCE_SECONDS) == code
    with open(note) as file:
        assert file.read() == "cleaned up"


def test_another_signal_ends_what_may_be_hurried() -> None:
    with subprocess.Popen([sys.executable, "-c", PATIENT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for number in (signal.SIGTERM, signal.SIGINT):
            process.stdout.readline()
            process.send_signal(number)
        assert process.wait(PATIENCE_SECONDS) == 143


def test_it_is_known_that_an_error_comes_of_a_signal() -> None:
    words = [sys.executable, "-c", SWALLOWER]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "False\n"
        process.send_signal(signal.SIGTERM)
        told, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert (told, errors, process.returncode) == ("True\n", "", 143)


def test_under_nohup_the_terminal_may_go() -> None:
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    with subprocess.Popen([sys.executable, "-c", ignoring + PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 143


def test_a_terminal_that_is_gone_does_not_keep_it_from_cleaning_up(tmp_path: os.PathLike[str]) -> None:
    note = os.path.join(tmp_path, "note")
    terminal, its_end = pty.openpty()
    words = [sys.executable, "-c", TALKER, note]
    with subprocess.Popen(words, stdin=its_end, stdout=its_end, stderr=its_end, start_new_session=True) as process:
        os.close(its_end)
        while b"begun" not in os.read(terminal, 1024):
            pass
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        assert process.wait(PATIENCE_SECONDS) == 129
    with open(note) as file:
        assert file.read() == "cleaned up"


def test_a_reader_that_is_gone_does_not_keep_it_from_cleaning_up(tmp_path: os.PathLike[str]) -> None:
    note = os.path.join(tmp_path, "note")
    with subprocess.Popen([sys.executable, "-c", TALKER, note], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 143
    with open(note) as file:
        assert file.read() == "cleaned up"
