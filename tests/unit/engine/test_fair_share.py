"""Whose request is next."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_serve.engine.fair_share import FairShare

PLACES, PROMPT_TOKENS = 16, 100
KEPT = 2
"""Places that a client leaves to others."""
AHEAD = 4
"""Requests that wait in the engine core for a client who is alone."""
LONG_SECONDS = 61.0


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Share(FairShare):
    """With the names of what the engine core has."""

    def __init__(self, places: int = PLACES, prompt_tokens: int = PROMPT_TOKENS) -> None:
        self.time = Clock()
        super().__init__(places, prompt_tokens, self.time)
        self.there: list[str] = []
        self._asked = 0

    def ask(self, client: str, number: int, tokens: int = 1) -> int:
        """Ask for so many; how many went in at once."""
        before = len(self.there)
        for _ in range(number):
            name = f"{client}{self._asked}"
            self._asked += 1
            if self.enter(client, name, tokens):
                self.there.append(name)
        return len(self.there) - before

    def end(self, *names: str) -> list[str]:
        for name in names:
            self.leave(name)
            if name in self.there:
                self.there.remove(name)
        turns = self.turns()
        self.there += turns
        return turns

    def counts(self) -> Counter[str]:
        return Counter(name[0] for name in self.there)


def test_who_is_alone_fills_the_engine_and_what_it_goes_on_with() -> None:
    share = Share()
    assert share.ask("a", 100) == PLACES + AHEAD
    assert len(share.end(*share.there[:5])) == 5


def test_who_is_not_alone_leaves_places_that_others_have_at_once() -> None:
    share = Share()
    share.ask("b", 1)
    assert share.ask("a", 100) == PLACES - KEPT
    assert share.ask("c", 1) == 1


def test_a_client_keeps_its_place_for_some_time() -> None:
    share = Share()
    share.ask("b", 1)
    share.end(*share.there)
    assert share.ask("a", 100) == PLACES - KEPT
    share.time.now = LONG_SECONDS
    assert len(share.end(share.there[0])) == 1 + KEPT + AHEAD


def test_who_is_forgotten_keeps_no_place() -> None:
    share = Share()
    share.ask("b", 1)
    share.end(*share.there)
    share.forget_idle()
    assert share.ask("a", 100) == PLACES + AHEAD


def test_who_has_something_under_way_is_not_forgotten() -> None:
    share = Share()
    share.ask("b", 1)
    share.forget_idle()
    assert share.ask("a", 100) == PLACES - KEPT


def test_who_comes_to_a_full_engine_is_next() -> None:
    share = Share()
    share.ask("a", 100)
    assert share.ask("b", 1) == 0
    waits = share.end(*share.there[: AHEAD + 1])
    assert waits == ["b100"]


def test_the_client_with_the_fewest_is_next() -> None:
    share = Share()
    share.ask("b", 1)
    share.ask("a", 100)
    share.ask("b", 100)
    for _ in range(60):
        share.end(share.there[0])
    assert share.counts() == {"a": PLACES / 2, "b": PLACES / 2}


@pytest.mark.parametrize(
    ("tokens", "at_once"),
    [
        pytest.param(1000, 1, id="one that is longer than all that may be"),
        pytest.param(40, 2, id="as many as fit"),
        pytest.param(0, PLACES - KEPT, id="none, as with embeddings"),
    ],
)
def test_prompts_of_one_client_are_computed_a_few_at_once(tokens: int, at_once: int) -> None:
    share = Share()
    share.ask("b", 1)
    assert share.ask("a", 100, tokens) == at_once
    share.begin(share.there)
    assert len(share.turns()) == min(at_once, PLACES - KEPT - at_once)


def test_the_same_request_again_is_no_other() -> None:
    share = Share(places=1)
    share.ask("a", 1)
    share.ask("b", 1)
    assert share.enter("a", "a0", 1)
    assert not share.enter("b", "b1", 1)
    assert share.is_waiting("b1")
    assert share.end("a0") == ["b1"]


def test_who_comes_back_after_long_gets_an_answer() -> None:
    share = Share(places=1)
    share.ask("a", 1)
    share.ask("b", 1)
    assert share.end("a0") == ["b1"]
    share.time.now = LONG_SECONDS
    assert share.ask("a", 1) == 0
    assert share.end("b1") == ["a2"]


STEPS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30), st.integers(0, 150), st.integers(0, 40)))


@given(STEPS, st.integers(1, 20))
def test_nobody_waits_for_ever(steps: list[tuple[str, int, int, int]], places: int) -> None:
    share = Share(places)
    for client, number, tokens, passed in steps:
        share.ask(client, number, tokens)
        share.begin(share.there[: number // 2])
        share.end(*share.there[:number])
        share.time.now += passed
    while share.there:
        share.end(share.there[0])
    assert not share._waiting
    assert not share._running
    assert not share._beginning


@given(STEPS, st.integers(1, 20))
def test_the_engine_never_has_too_much(steps: list[tuple[str, int, int, int]], places: int) -> None:
    share = Share(places)
    for client, number, tokens, passed in steps:
        share.ask(client, number, tokens)
        assert len(share.there) <= places + max(1, places // 4)
        share.end(*share.there[: number // 2])
        share.time.now += passed
