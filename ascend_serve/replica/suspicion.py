"""Which request may have ended an engine. Pure.

An engine that is lost does not say by what. A request that ends engines does so where its next token is computed, and
again when that is tried again; so whoever has got no token since the engine got the request is suspect. Suspects go to
the next engine in a few groups, each when the one before it has got on, so that another loss leaves fewer of them. Who
is lost with an engine while on trial alone is given up; the others go on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

_GROUPS = 8
"""Suspects are tried in so many groups at most: finding one of 64 takes two more engines, and the others wait for
eight first tokens each time."""

MOST_LOSSES = 8
"""Engines that may be lost under one request, whoever is the cause: one that ends them at any moment is found so."""


class OnTrial(Protocol):
    """A request under way, as `engine.open_requests.OpenRequest` is one."""

    tokens_then: int
    is_on_engine: bool
    is_suspect: bool
    is_alone: bool
    losses: int


Tried = TypeVar("Tried", bound=OnTrial)


def judge(requests: Sequence[Tried], count: Callable[[Tried], int]) -> list[Tried]:
    """Note the loss of an engine with all requests that it had.

    Args:
        requests: All that are under way.
        count: Tells how many tokens were given out of one.

    Returns:
        Those to be given up.
    """
    there = [request for request in requests if request.is_on_engine]
    waiting = [request for request in there if count(request) == request.tokens_then]
    suspects = waiting or (there if len(there) <= _GROUPS else [])
    given_up = [r for r in there if r.losses + 1 >= MOST_LOSSES or (r.is_alone and r in waiting)]
    for request in there:
        request.losses += 1
        request.is_suspect = request in suspects
        request.is_on_engine = request.is_alone = False
    return given_up


def groups(requests: Sequence[Tried]) -> Iterator[list[Tried]]:
    """In which groups requests are handed over: those beyond suspicion together and first."""
    yield [request for request in requests if not request.is_suspect]
    suspects = [request for request in requests if request.is_suspect]
    size = math.ceil(len(suspects) / _GROUPS)
    for start in range(0, len(suspects), max(1, size)):
        yield suspects[start : start + size]
