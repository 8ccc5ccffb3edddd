"""The time that an emulated device takes."""

from __future__ import annotations

import pytest
import torch

from ascend_serve.emulated.clock import DeviceEvent, DeviceTime
from ascend_serve.emulated.launches import LaunchCount
from tests.unit.emulated.host import Host


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.mark.parametrize(
    ("said", "num_tokens", "seconds"),
    [
        pytest.param({}, 8, 0.0, id="no time"),
        pytest.param(None, 8, 0.0, id="not said"),
        pytest.param({"fixed": 15}, 8, 0.015, id="any step alike"),
        pytest.param({"fixed": 15, "per_token": 0.5}, 8, 0.019, id="by the padded batch"),
    ],
)
def test_a_step_takes_what_is_said(said: dict[str, float] | None, num_tokens: int, seconds: float) -> None:
    time = DeviceTime.of(said)
    assert time.of_step(num_tokens) == pytest.approx(seconds)
    assert bool(time) is (seconds > 0)


def test_the_host_goes_on_while_the_device_works(host: Host) -> None:
    clock = host.clock()
    with clock.work(0.015, 0.0):
        host.time += 0.002
    assert host.slept == 0.0
    assert clock.free_at == pytest.approx(100.015)


def test_work_queues_up(host: Host) -> None:
    clock = host.clock()
    for _ in range(3):
        with clock.work(0.015, 0.0):
            host.time += 0.002
    assert clock.free_at == pytest.approx(100.045)


def test_the_device_is_never_faster_than_what_computes_for_it(host: Host) -> None:
    clock = host.clock()
    with clock.work(0.001, 0.0):
        host.time += 0.002
    assert clock.free_at == pytest.approx(100.002)


def test_a_host_that_launches_operators_is_held_up_and_holds_up_the_device(host: Host) -> None:
    clock = host.clock()
    with clock.work(0.015, 0.160):
        host.time += 0.003
    assert host.time == pytest.approx(100.160)
    assert clock.free_at == pytest.approx(100.160)


def test_the_host_waits_for_what_was_recorded_and_no_longer(host: Host) -> None:
    clock = host.clock()
    with clock.work(0.015, 0.0):
        pass
    first = DeviceEvent(clock)
    first.record()
    with clock.work(0.015, 0.0):
        pass
    assert not first.query()
    first.synchronize()
    assert host.time == pytest.approx(100.015)
    assert first.query()
    clock.wait()
    assert host.time == pytest.approx(100.030)


def test_an_event_that_nobody_recorded_holds_up_nobody(host: Host) -> None:
    DeviceEvent(host.clock()).synchronize()
    assert host.slept == 0.0


def test_operators_that_compute_are_counted() -> None:
    with LaunchCount() as count:
        torch.add(torch.ones(2, 2).view(4), 1.0)
    assert count.operators == 2
