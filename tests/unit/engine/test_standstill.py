"""A main loop that stands still is seen from beside it."""

from __future__ import annotations

import queue
import threading
import time

from ascend_serve.engine.standstill import _LOOK_SECONDS as LOOK_SECONDS
from ascend_serve.engine.standstill import StandstillWatch
from tests.patience import PATIENCE_SECONDS

PATIENCE = 0.2


def test_where_a_main_loop_stands_is_told_once_and_taken_back_when_it_goes_on() -> None:
    told: queue.Queue[str] = queue.Queue()
    may_go_on = threading.Event()

    def hang_here() -> None:
        may_go_on.wait()

    def main_loop() -> None:
        watch = StandstillWatch(told.put)
        watch.beat(PATIENCE)
        hang_here()
        watch.beat(60.0)

    loop = threading.Thread(target=main_loop)
    loop.start()
    place = told.get(timeout=PATIENCE_SECONDS)
    assert "wait" in place or "hang_here" in place
    assert ".py:" in place
    may_go_on.set()
    loop.join()
    assert told.get(timeout=PATIENCE_SECONDS) == ""
    assert told.empty()


def test_nothing_is_told_of_a_main_loop_that_goes_on() -> None:
    told: queue.Queue[str] = queue.Queue()
    watch = StandstillWatch(told.put)
    watch.beat(2 * LOOK_SECONDS)
    watch.beat(PATIENCE_SECONDS)
    time.sleep(4 * LOOK_SECONDS)
    assert told.empty()
