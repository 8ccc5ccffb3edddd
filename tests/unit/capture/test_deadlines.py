"""Deadlines from the size of the model and what compiles."""

import pytest

from ascend_serve.capture.deadlines import Deadlines, default_deadlines

GIB = 1 << 30
HCCL_TIMEOUT = 1836

DEFAULTS = [
    pytest.param(0, False, Deadlines(600, 60, 120, 120), id="hardly any weights"),
    pytest.param(60_000_000_000, False, Deadlines(1200, 60, 126, 126), id="60 GB on one rank"),
    pytest.param(60_000_000_000, True, Deadlines(1200, 60, 1926, 126), id="static kernels compile in the capture"),
]


@pytest.mark.parametrize(("weights", "static_kernel", "deadlines"), DEFAULTS)
def test_defaults(weights: int, static_kernel: bool, deadlines: Deadlines) -> None:
    assert default_deadlines(weights, static_kernel=static_kernel) == deadlines


def test_the_driver_decides_before_a_collective_times_out() -> None:
    derived = default_deadlines(64 * GIB)
    assert max(derived.capture, derived.seal) < HCCL_TIMEOUT


def test_what_the_configuration_sets_counts() -> None:
    derived = default_deadlines(0, overrides={"join": None, "capture": 5.0})
    assert derived == Deadlines(600, 60, 5, 120)
