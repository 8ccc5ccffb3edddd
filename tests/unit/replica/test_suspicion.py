"""Who may have ended an engine, over engines that end by what they are scripted to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from ascend_serve.replica.suspicion import MOST_LOSSES, groups, judge


@dataclass(eq=False)
class Trial:
    """A request under way.

    Attributes:
        name: Names it in results.
        tokens: Given out so far.
    """

    name: str
    tokens: int = 0
    tokens_then: int = 0
    is_on_engine: bool = True
    is_replayed: bool = False
    is_suspect: bool = False
    is_alone: bool = False
    losses: int = 0


def judged(requests: list[Trial]) -> list[str]:
    return [request.name for request in judge(requests, lambda request: request.tokens)]


def lose_engines(requests: list[Trial], is_deadly: Callable[[Trial], bool], most: int = 9) -> tuple[int, list[str]]:
    """Run engines until one stays: how many were lost, the first included, and who was given up."""
    given_up: list[str] = []
    for lost in range(1, most + 1):
        given_up += judged(requests)
        requests = [request for request in requests if request.name not in given_up]
        if not _dies(requests, is_deadly):
            return lost, given_up
    raise AssertionError(f"{most} engines were lost")


def _dies(requests: list[Trial], is_deadly: Callable[[Trial], bool]) -> bool:
    """Hand over group by group; each request gets on at once, unless it ends the engine."""
    for group in groups(requests):
        for request in group:
            request.tokens_then, request.is_on_engine = request.tokens, True
            request.is_alone = request.is_suspect and len(group) == 1
        if any(map(is_deadly, group)):
            return True
        for request in group:
            request.tokens += 1
    return False


@pytest.mark.parametrize(
    ("decoding", "waiting", "lost"),
    [
        pytest.param(0, 0, 2, id="alone"),
        pytest.param(8, 0, 2, id="the only one that waits for its first token"),
        pytest.param(8, 3, 2, id="one of some that wait"),
        pytest.param(40, 30, 3, id="one of many that wait"),
        pytest.param(100, 500, 4, id="one of a flood"),
    ],
)
def test_a_prompt_that_ends_engines_is_given_up_and_nobody_else(decoding: int, waiting: int, lost: int) -> None:
    others = [Trial(f"decoding-{n}", tokens=5) for n in range(decoding)] + [Trial(f"new-{n}") for n in range(waiting)]
    assert lose_engines([*others, Trial("deadly")], lambda request: request.name == "deadly") == (lost, ["deadly"])


@pytest.mark.parametrize(("others", "lost"), [pytest.param(3, 2, id="among few"), pytest.param(40, 4, id="among many")])
def test_an_answer_that_ends_engines_at_one_of_its_tokens_is_found_too(others: int, lost: int) -> None:
    requests = [Trial(f"decoding-{n}", tokens=5) for n in range(others)] + [Trial("deadly", tokens=9)]
    assert lose_engines(requests, lambda request: request.name == "deadly") == (lost, ["deadly"])


def test_losses_by_something_else_give_nobody_up() -> None:
    requests = [Trial(f"decoding-{n}", tokens=5) for n in range(20)]
    for _ in range(MOST_LOSSES - 1):
        assert judged(requests) == []
        assert not _dies(requests, lambda request: False)


def test_a_request_under_which_engines_are_lost_again_and_again_is_given_up_at_last() -> None:
    requests = [Trial("unlucky", tokens=1), *(Trial(f"decoding-{n}", tokens=5, losses=-9) for n in range(20))]
    for _ in range(MOST_LOSSES - 1):
        assert judged(requests) == []
        assert not _dies(requests, lambda request: False)
    assert judged(requests) == ["unlucky"]


def test_who_was_not_handed_over_yet_has_nothing_to_do_with_a_loss() -> None:
    waiting = Trial("waiting", is_on_engine=False, is_suspect=True)
    assert judged([waiting, Trial("there")]) == []
    assert (waiting.losses, waiting.is_suspect) == (0, True)


def test_new_requests_that_come_while_one_is_on_trial_do_not_save_it() -> None:
    on_trial, new = Trial("deadly", is_suspect=True, is_alone=True), Trial("new")
    assert judged([on_trial, new]) == ["deadly"]
    assert new.is_suspect
