"""Builds of the simulated CANN into one folder do not meet."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cann_sim.build import alone


def test_a_build_waits_for_the_one_before(tmp_path: Path) -> None:
    seen: list[str] = []

    def build(_: int) -> None:
        with alone(tmp_path / "new"):
            seen.append("begins")
            time.sleep(0.05)
            seen.append("ends")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(build, range(3)))
    assert seen == ["begins", "ends"] * 3
