"""Which requests of several clients an engine core works on, and which wait for their turn. Pure but for its clock.

vLLM's scheduler takes requests in the order in which they come (0.32.0), or by a number that clients say of themselves
(``scheduling_policy: priority``). Neither keeps a client who asks for thousands of answers from taking the engine away
from one who asks for a single one. So the engine core gets little more than it can work on at once, and the next
place is for the client who has the fewest.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

_AHEAD = 4
"""For so many places one request more waits in the engine core where a client is alone, so that it finds the next one
there whenever one ends."""

_RESERVE = 8
"""One place in so many is kept from each client while others are about: they begin at once."""

_RECENT_SECONDS = 60.0
"""How long a client is about after its last request has ended: who asks now and then keeps its place."""

_PRUNE_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class _Client:
    """What one client has under way.

    Attributes:
        left: When its last request ended.
        running: Requests that the engine core has.
        beginning: Tokens of prompts that it has yet to compute.
        served: How many requests of anybody had gone in when its last one did.
        waiting: Requests that wait, with the tokens of their prompts, oldest first.
    """

    left: float
    running: int = 0
    beginning: int = 0
    served: int = 0
    waiting: OrderedDict[str, int] = field(default_factory=OrderedDict)

    @property
    def is_idle(self) -> bool:
        return not self.running and not self.waiting


@dataclass(slots=True, eq=False)
class _Running:
    """A request that the engine core has."""

    client: _Client
    tokens: int


class FairShare:
    """Decides whose request is next.

    A client who is alone has all places, and a few requests that wait in the engine core. While several are about, each
    leaves some places free, and has at most ``prompt_tokens`` of prompts computed at once; what waits goes in when
    something ends, that of the client with the fewest requests on the engine first, of several of these in turn.

    Args:
        places: Requests that the engine core works on at once.
        prompt_tokens: Tokens of prompts that one client may have computed at once while others are about.
        clock: Seconds that pass.

    Attributes:
        prompt_tokens: As given.
        is_open: Whether anything goes in at all.
    """

    def __init__(self, places: int, prompt_tokens: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_open = True
        self._places = places
        self.prompt_tokens = prompt_tokens
        self._clock = clock
        self._clients: dict[str, _Client] = {}
        self._running: dict[str, _Running] = {}
        self._beginning: set[str] = set()
        self._waiting: dict[str, _Client] = {}
        self._served = 0
        self._pruned = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether the engine core has no request."""
        return not self._running

    def is_waiting(self, name: str) -> bool:
        """Whether a request waits for its turn."""
        return name in self._waiting

    def forget_idle(self) -> None:
        """Keep no place for who has nothing under way."""
        self._forget(math.inf)

    def enter(self, client: str, name: str, tokens: int) -> bool:
        """Whether a request may go to the engine core at once; else it waits until `turns` names it.

        Args:
            client: Who asks.
            name: Of the request; what is known by it already stays where it is.
            tokens: Of its prompt.
        """
        if name in self._running or name in self._waiting:
            return name in self._running
        # Before who asks is looked up: one who comes back after long would be forgotten with the request.
        self._prune()
        who = self._clients.get(client)
        if who is None:
            who = self._clients[client] = _Client(self._clock())
        if not who.waiting and self._has_room(who, tokens):
            self._start(who, name, tokens)
            return True
        who.waiting[name] = tokens
        self._waiting[name] = who
        return False

    def begin(self, names: Iterable[str]) -> None:
        """Note that the prompts of requests were computed; of one that is known to have begun that is no news."""
        for name in self._beginning.intersection(names) if self._beginning else ():
            self._beginning.discard(name)
            running = self._running[name]
            running.client.beginning -= running.tokens

    def leave(self, name: str) -> None:
        """Note that a request has ended, wherever it was."""
        if name in self._running:
            self.begin((name,))
            running = self._running.pop(name)
            running.client.running -= 1
            running.client.left = self._clock()
        elif (waiting := self._waiting.pop(name, None)) is not None:
            del waiting.waiting[name]
            waiting.left = self._clock()

    def turns(self) -> list[str]:
        """The requests whose turn has come."""
        names: list[str] = []
        if self._waiting:
            self._prune()
        while self._waiting and (who := self._next()) is not None:
            name, tokens = who.waiting.popitem(last=False)
            del self._waiting[name]
            self._start(who, name, tokens)
            names.append(name)
        return names

    def _next(self) -> _Client | None:
        able = (who for who in self._clients.values() if who.waiting and self._has_room(who, _first(who)))
        return min(able, key=lambda who: (who.running, who.served), default=None)

    def _start(self, who: _Client, name: str, tokens: int) -> None:
        self._running[name] = _Running(who, tokens)
        self._beginning.add(name)
        self._served += 1
        who.served = self._served
        who.running += 1
        who.beginning += tokens

    def _has_room(self, who: _Client, tokens: int) -> bool:
        if not self.is_open:
            return False
        if len(self._clients) == 1:
            return len(self._running) < self._places + max(1, self._places // _AHEAD)
        return (
            len(self._running) < self._places
            and who.running < max(1, self._places - max(1, self._places // _RESERVE))
            and (not who.beginning or who.beginning + tokens <= self.prompt_tokens)
        )

    def _prune(self) -> None:
        """Forget clients who have asked for nothing for some time."""
        now = self._clock()
        if len(self._clients) > 1 and now - self._pruned >= _PRUNE_SECONDS:
            self._pruned = now
            self._forget(now - _RECENT_SECONDS)

    def _forget(self, before: float) -> None:
        gone = [name for name, who in self._clients.items() if who.is_idle and who.left < before]
        for name in gone:
            del self._clients[name]


def _first(who: _Client) -> int:
    return next(iter(who.waiting.values()))
