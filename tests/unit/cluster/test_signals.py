"""Who handles the signals that end a process."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from ascend_serve.cluster.signals import ENDING, own_signals, shielded_from_signals
from tests.patience import PATIENCE_SECONDS


class EndedError(Exception):
    pass


def end(number: int, frame: FrameType | None) -> None:
    raise EndedError


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.signal(number, end) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
def test_a_handler_that_is_set_in_the_block_is_gone_after_it(number: signal.Signals) -> None:
    with own_signals():
        signal.signal(number, signal.SIG_DFL)
    with pytest.raises(EndedError):
        os.kill(os.getpid(), number)


def test_a_terminal_that_is_closed_meanwhile_is_noticed_at_the_end_of_the_block() -> None:
    done: list[str] = []

    def start() -> None:
        with own_signals():
            # To this thread: another one may take what is sent to the process.
            signal.pthread_kill(threading.get_ident(), signal.SIGHUP)
            done.append("all of it")

    with pytest.raises(EndedError):
        start()
    assert done == ["all of it"]


def test_what_is_started_in_the_block_does_not_end_with_the_terminal() -> None:
    with own_signals():
        process = subprocess.Popen(["sleep", "600"])
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.2)
    process.terminate()
    assert process.wait(PATIENCE_SECONDS) == -signal.SIGTERM


@pytest.mark.parametrize("number", ENDING, ids=lambda number: number.name)
def test_nothing_cuts_the_cleaning_up_short(number: signal.Signals) -> None:
    with shielded_from_signals():
        os.kill(os.getpid(), number)
    with pytest.raises(EndedError):
        os.kill(os.getpid(), number)
