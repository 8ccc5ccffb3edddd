"""Streams of a replica that is killed: they go on in another one, and their clients get what they would have got.

In float32, as in ``test_continuation.py``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import httpx
import psutil
import pytest

from tests.e2e.answers import Answer, Question, ask_all
from tests.e2e.command import Command
from tests.e2e.test_continuation import GREEDY, OTHERS, OVERRIDES
from tests.patience import PATIENCE_SECONDS, wait_until

pytestmark = pytest.mark.slow

KEPT = (
    *OVERRIDES,
    "parallel.tensor_parallel_size=1",
    "serving.deployment.num_replicas=2",
    "serving.recovery.streams=replica",
    "serving.recovery.spares=false",
)
NOT_KEPT = ("two answers", "logprobs of the prompt", "responses", "messages")
"""Of several answers, of prompts, and of APIs whose streams nobody keeps: they end with their replica."""
QUESTIONS = GREEDY | {name: question for name, question in OTHERS.items() if name not in NOT_KEPT}


@dataclass(frozen=True)
class Told:
    """What was seen of a loss.

    Attributes:
        right: Answers without it.
        got: Answers over it.
    """

    right: dict[str, Answer]
    got: dict[str, Answer]


def replicas(server: Command) -> list[psutil.Process]:
    return [process for process in server.processes() if process.name().startswith("ray::ServeRepli")]


def keepers() -> list[int]:
    """Process ids of the stream keepers of this machine."""
    found = psutil.process_iter(["cmdline"])
    return [process.pid for process in found if "ascend_serve.serving.stream_keeper" in (process.info["cmdline"] or ())]


@pytest.fixture(scope="module")
def server(start: Callable[..., Command]) -> Iterator[Command]:
    yield from start(*KEPT).serving()
    assert wait_until(lambda: not keepers())


@pytest.fixture(scope="module")
def told(server: Command) -> Told:
    """One loss under all of them; a stop string is taken from where an answer is half through."""
    url = f"http://127.0.0.1:{server.port}"
    assert wait_until(lambda: len(replicas(server)) == 2)
    questions: dict[str, Question] = dict(QUESTIONS)
    late = ask_all(url, {"client 0": GREEDY["client 0"]})["client 0"].texts[0]
    body = {**GREEDY["client 0"].body, "stop": [late[2 * len(late) // 3 :][:5]]}
    questions["stop string"] = replace(GREEDY["client 0"], body=body)
    right = ask_all(url, questions)

    def kill_a_replica() -> None:
        replicas(server)[0].kill()

    return Told(right, ask_all(url, questions, kill_a_replica))


def test_every_client_gets_the_whole_answer(told: Told) -> None:
    assert {name: answer.error for name, answer in told.got.items() if answer.error} == {}
    assert [name for name, answer in told.got.items() if not answer.is_whole] == []


@pytest.mark.parametrize("name", [*QUESTIONS, "stop string"])
def test_an_answer_is_that_of_an_undisturbed_replica(told: Told, name: str) -> None:
    right, got = told.right[name], told.got[name]
    assert got.texts == right.texts
    assert (got.ends, got.usage, got.tokens) == (right.ends, right.usage, right.tokens)
    assert got.logprobs[1:] == pytest.approx(right.logprobs[1:], abs=1e-3)


def test_the_loss_came_in_the_middle_of_some_of_the_streams(told: Told, server: Command) -> None:
    moved = [name for name, answer in told.got.items() if any("another replica" in line for line in answer.comments)]
    assert moved
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE_SECONDS) as client:
        # Either replica may answer: the one that took them over is the older one.
        counted = {_taken_over(client) for _ in range(8)}
    assert max(counted) >= 1


def test_the_only_replica_that_is_left_may_be_killed_too(told: Told, server: Command) -> None:
    """Then its streams wait for the next one."""
    url = f"http://127.0.0.1:{server.port}"

    def kill_all() -> None:
        time.sleep(0.5)
        for replica in replicas(server):
            replica.kill()

    assert told.got
    got = ask_all(url, GREEDY, kill_all)
    assert {name: answer.texts for name, answer in got.items()} == {name: told.right[name].texts for name in GREEDY}
    assert any("the replica is being replaced" in line for answer in got.values() for line in answer.comments)


def _taken_over(client: httpx.Client) -> float:
    text = client.get("/metrics").text
    (found,) = re.findall(r'ascend_serve_lost_engine_requests_total\{outcome="taken_over"\} (\S+)', text)
    return float(found)
