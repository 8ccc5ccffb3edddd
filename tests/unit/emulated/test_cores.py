"""How many of the machine's cores compute for an emulated NPU."""

from __future__ import annotations

import os

import pytest

from ascend_serve.emulated.cores import cores_here, have_cores_beside, threads_of_device


@pytest.mark.parametrize(
    ("cores", "devices", "threads"),
    [
        pytest.param(2, 1, 1, id="one core is left to what schedules and answers"),
        pytest.param(2, 2, 1, id="no core to leave"),
        pytest.param(4, 2, 1, id="two are left"),
        pytest.param(8, 2, 3, id="several each"),
        pytest.param(2, 4, 1, id="devices share cores"),
        pytest.param(1, 1, 1, id="a single core"),
    ],
)
def test_devices_share_the_cores(cores: int, devices: int, threads: int) -> None:
    assert threads_of_device(cores, devices) == threads


def test_cores_are_those_that_this_process_may_run_on() -> None:
    assert 1 <= cores_here() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("cpus", "ranks", "beside"),
    [pytest.param({0, 1}, 1, True, id="one rank on two"), pytest.param({0, 1}, 2, False, id="a rank on each")],
)
def test_ranks_may_take_every_core(cpus: set[int], ranks: int, beside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: cpus)
    assert have_cores_beside(ranks) is beside
