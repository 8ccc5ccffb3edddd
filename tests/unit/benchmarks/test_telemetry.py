"""Arithmetic of the benchmark of telemetry."""

from __future__ import annotations

import pytest

from benchmarks.telemetry import growth


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        pytest.param([110.0], (0.1, 0.1, 0.1), id="one pair"),
        pytest.param([float(100 + number) for number in range(101)], (0.5, 0.4, 0.6), id="ten ranks of a hundred"),
        pytest.param([*[101.0] * 70, *[900.0] * 30], (0.01, 0.01, 0.01), id="outliers"),
    ],
)
def test_growth_is_a_median_with_bounds_by_rank(seconds: list[float], expected: tuple[float, float, float]) -> None:
    assert growth([(100.0, second) for second in seconds]) == pytest.approx(expected)
