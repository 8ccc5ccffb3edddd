"""What clients with two tries live through when they obey ``Retry-After``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_serve.api.retry_after import LONGEST_SECONDS, SHORTEST_SECONDS, retry_after

TRIES = 2
"""What the SDKs of OpenAI, Anthropic and Vercel do by themselves, after the first request."""

REACH = TRIES * LONGEST_SECONDS
ANY_SECONDS = st.floats(0, 600)
MOMENT = st.floats(0, 1, exclude_max=True)
"""When in a restart a client asks first, as a share of it."""


@pytest.mark.parametrize(
    ("expected", "passed", "seconds"),
    [
        pytest.param(20, 0, 25, id="at the beginning: the likely end"),
        pytest.param(20, 15, 10, id="in the middle: what is left"),
        pytest.param(20, 24, 5, id="just before the likely end: no less than 5"),
        pytest.param(20, 25, 40, id="past it: 65 after the beginning"),
        pytest.param(20, 80, 40, id="long past it: half of what has passed"),
        pytest.param(20, 300, 59, id="very long past it: no more than 59"),
        pytest.param(60, 0, 59, id="a long one, at the beginning: as much as all clients wait"),
        pytest.param(60, 40, 35, id="a long one, in the middle: the likely end"),
        pytest.param(60, 59, 31, id="a long one, after one wait: the latest end"),
        pytest.param(100, 59, 59, id="a very long one, after one wait: all that is left"),
        pytest.param(0, 0, 59, id="nothing known"),
    ],
)
def test_table(expected: float, passed: float, seconds: int) -> None:
    assert retry_after(expected, passed) == seconds


@given(ANY_SECONDS, ANY_SECONDS)
def test_every_client_waits_that_long(expected: float, passed: float) -> None:
    assert SHORTEST_SECONDS <= retry_after(expected, passed) <= LONGEST_SECONDS


@given(st.floats(1, 300), st.floats(0.8, 1.5), MOMENT)
def test_two_tries_reach_over_a_restart_that_was_expected(expected: float, off: float, moment: float) -> None:
    length = min(off * expected, REACH)
    assert served(expected, length, moment * length) is not None


@given(ANY_SECONDS, st.floats(0, 60), MOMENT)
def test_two_tries_reach_over_a_minute_whatever_was_expected(expected: float, length: float, moment: float) -> None:
    assert served(expected, length, moment * length) is not None


@given(st.floats(1, 47), MOMENT)
def test_nobody_waits_much_longer_than_a_restart_of_the_usual_length(length: float, moment: float) -> None:
    done = served(length, length, moment * length)
    assert done is not None
    assert done - length <= max(0.25 * length, SHORTEST_SECONDS) + 1


def test_one_more_second_of_restart_is_what_two_tries_cannot_reach() -> None:
    assert served(100, REACH, 0) == REACH
    assert served(100, REACH + 1, 0) is None


def served(expected: float, length: float, asks: float) -> float | None:
    """When a client that asks first ``asks`` seconds into a restart of ``length`` is served, or ``None``."""
    for _ in range(TRIES):
        if asks >= length:
            break
        asks += retry_after(expected, asks)
    return asks if asks >= length else None
