"""Which cores compute for which emulated NPU."""

from __future__ import annotations

import multiprocessing
import os

import pytest
import torch

from ascend_serve.emulated.cores import BINDING, bind_threads, cores_of_device


@pytest.mark.parametrize(
    ("cores", "devices", "expected"),
    [
        pytest.param([0, 1], 1, [[0]], id="one core is left to what schedules and answers"),
        pytest.param([0, 1], 2, [[0], [1]], id="no core to leave"),
        pytest.param([0, 1, 2, 3], 2, [[0], [1]], id="two are left"),
        pytest.param([0, 1, 2, 3, 4, 5, 6, 7], 2, [[0, 1, 2], [3, 4, 5]], id="several cores each"),
        pytest.param([4, 6], 4, [[4], [6], [4], [6]], id="devices share cores"),
        pytest.param([3], 1, [[3]], id="a single core"),
    ],
)
def test_devices_share_the_cores(cores: list[int], devices: int, expected: list[list[int]]) -> None:
    assert [cores_of_device(cores, device, devices) for device in range(devices)] == expected


def _bound() -> tuple[int, set[int]]:
    bind_threads(0, 1)
    return torch.get_num_threads(), os.sched_getaffinity(0)


@pytest.mark.parametrize(
    ("said", "binds"),
    [pytest.param(None, True, id="unless told otherwise"), pytest.param("nobind", False, id="nobind")],
)
def test_a_process_computes_on_its_cores(said: str | None, binds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BINDING, raising=False)
    if said is not None:
        monkeypatch.setenv(BINDING, said)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        threads, cores = pool.apply(_bound)
    assert (threads == len(cores)) if binds else (cores == os.sched_getaffinity(0))
    assert not binds or len(cores) < max(2, len(os.sched_getaffinity(0)))
