"""When a client that is refused during a restart should ask again.

The official clients ask twice more by themselves, each time after what ``Retry-After`` says. Two tries have to reach
over the restart: the first aims at its likely end, the second at the end of one that takes longer than expected.
"""

from __future__ import annotations

import math

SHORTEST_SECONDS = 5
"""Less would use up a client's tries within moments."""

LONGEST_SECONDS = 59
"""More and some clients do not wait at all: openai 1, anthropic 0.59 and Vercel's AI SDK take less than 60 s, openai 2
and 3 up to 120 s (their sources, November 2026)."""

_LIKELY = 1.25
_SURE = 1.5
"""How much longer than expected a restart takes at most, as a rule."""

_UNFORESEEN_SECONDS = 65.0
"""A restart that was expected to be short may take this long and nobody has to set a number of tries."""


def retry_after(expected: float, passed: float) -> int:
    """Seconds after which to ask again.

    Args:
        expected: How long the restart was expected to take.
        passed: How long it has taken so far.
    """
    likely = _LIKELY * expected
    # Who asks later may ask for the last time: after one wait, or because the restart takes longer than likely.
    if passed < min(likely, LONGEST_SECONDS):
        end = likely
    else:
        end = max(_SURE * expected, _SURE * passed, _UNFORESEEN_SECONDS)
    return math.ceil(min(max(end - passed, SHORTEST_SECONDS), LONGEST_SECONDS))
