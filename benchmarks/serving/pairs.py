"""Ratios of two systems in the same round, and what they come to over all rounds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Values of several rounds.

    Attributes:
        median: Of the values.
        low: The smallest.
        high: The largest.
        values: All, in the order of the rounds.
    """

    median: float
    low: float
    high: float
    values: tuple[float, ...]


def spread(values: Sequence[float]) -> Spread | None:
    """The spread of ``values``; ``None`` where there are none."""
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), tuple(values))


def ratios(one: Mapping[int, float], other: Mapping[int, float]) -> Spread | None:
    """The spread of ``one / other`` over the rounds in which both were measured.

    Args:
        one: Values by round.
        other: Values by round.
    """
    both = sorted(one.keys() & other.keys())
    return spread([one[number] / other[number] for number in both if other[number]])


def differences(one: Mapping[int, float], other: Mapping[int, float]) -> Spread | None:
    """The spread of ``one - other`` over the rounds in which both were measured."""
    return spread([one[number] - other[number] for number in sorted(one.keys() & other.keys())])
