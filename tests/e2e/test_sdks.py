"""What callers of the official SDKs notice of a restart: nothing, while two tries reach over it.

`tests/e2e/test_recovery.py` has the SDKs of the development environment ask a deployment that loses a worker.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.e2e.command import Command
from tests.e2e.restarts import Replicas, Restart
from tests.e2e.sdks.sdk import ALL, Call, Outcome, Sdk
from tests.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.slow

MOMENTS = (0.1, 0.5, 0.95)
"""When in a restart the calls come, as shares of it."""

SURVIVED = (
    Restart(20, expected=20),
    Restart(22, expected=20),
    Restart(40, expected=40),
    Restart(60, expected=60),
    Restart(60, expected=20),
    Restart(110, expected=100),
)
LONG = Restart(150, expected=140)
TRIES = 3
"""What reaches over that one."""
ENDLESS = Restart(3600, expected=140)

SETTLED_SECONDS = 0.5
"""From losing an engine to the gate that is shut."""

SDKS = [pytest.param(sdk, id=sdk.name) for sdk in ALL]


@dataclass(frozen=True)
class Question:
    """What is asked of an SDK.

    Attributes:
        restart: During which.
        moment: When, as a share of it.
        tries: That the SDK is told to make; its default when 0.
    """

    restart: Restart
    moment: float
    tries: int = 0


QUESTIONS = (
    *(Question(restart, moment) for restart in SURVIVED for moment in MOMENTS),
    Question(LONG, 0, TRIES),
    Question(ENDLESS, 0),
)


@pytest.fixture(scope="module")
def outcomes() -> dict[Sdk, dict[Question, Outcome]]:
    """How all calls of all SDKs ended, during all restarts at once."""
    restarts = (*SURVIVED, LONG, ENDLESS)
    replicas = Replicas(restarts)
    calls = [
        Call(replicas.url(restarts.index(question.restart)), question.moment * question.restart.seconds, question.tries)
        for question in QUESTIONS
    ]
    with replicas.serving():
        under_way = {sdk: sdk.begin(calls) for sdk in ALL}
        replicas.lose()
        time.sleep(SETTLED_SECONDS)
        for calling in under_way.values():
            calling.go()
        return {sdk: dict(zip(QUESTIONS, calling.outcomes(), strict=True)) for sdk, calling in under_way.items()}


@pytest.mark.parametrize("restart", SURVIVED, ids=lambda restart: f"{restart.seconds}-s-instead-of-{restart.expected}")
@pytest.mark.parametrize("sdk", SDKS)
def test_no_error_reaches_the_caller(outcomes: dict[Sdk, dict[Question, Outcome]], sdk: Sdk, restart: Restart) -> None:
    ended = [outcomes[sdk][Question(restart, moment)] for moment in MOMENTS]
    assert [outcome.error for outcome in ended] == [""] * len(MOMENTS)
    assert [outcome.tokens for outcome in ended] == [8] * len(MOMENTS)


@pytest.mark.parametrize("sdk", SDKS)
def test_a_restart_of_more_than_two_waits_needs_more_tries(
    outcomes: dict[Sdk, dict[Question, Outcome]], sdk: Sdk
) -> None:
    assert outcomes[sdk][Question(LONG, 0, TRIES)].error == ""
    assert outcomes[sdk][Question(ENDLESS, 0)].error


@pytest.fixture(scope="module")
def server(start: Callable[..., Command]) -> Iterator[Command]:
    command = start()
    command.wait_for("curl ")
    yield command
    assert command.end(signal.SIGINT) == 130


def test_a_deployment_that_loses_a_worker_answers_every_sdk(server: Command) -> None:
    ended = asked_while(server, lambda url: os.kill(worker(url), signal.SIGKILL))
    assert {name: outcome.error for name, outcome in ended.items()} == dict.fromkeys(ended, "")


def test_a_deployment_that_loses_its_replica_answers_every_sdk(server: Command) -> None:
    replica = next(process for process in server.processes() if process.name().startswith("ray::ServeRepli"))
    ended = asked_while(server, lambda url: replica.kill())
    assert {name: outcome.error for name, outcome in ended.items()} == dict.fromkeys(ended, "")


def asked_while(server: Command, lose: Callable[[str], None]) -> dict[str, Outcome]:
    """Let all SDKs ask as soon as something is lost, and again 5 s later."""
    url = f"http://127.0.0.1:{server.port}"
    calls = [Call(url, 0), Call(url, 5)]
    under_way = {sdk.name: sdk.begin(calls) for sdk in ALL}
    lose(url)
    for calling in under_way.values():
        calling.go()
    return {
        f"{name}, after {made.delay} s": outcome
        for name, calling in under_way.items()
        for made, outcome in zip(calls, calling.outcomes(), strict=True)
    }


def worker(url: str) -> int:
    """The process of rank 1."""
    report = httpx.get(f"{url}/graph/report", timeout=PATIENCE_SECONDS).json()
    return int(report["ranks"][1]["pid"])
