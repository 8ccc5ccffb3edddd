"""Requests under way when a worker is killed: their clients get what they would have got, after a pause.

In float32: in bfloat16 prefill and decode, and batches of different sizes, round so differently that another token may
come out, without a loss too.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest

from tests.e2e.answers import Answer, Question, ask_all
from tests.e2e.command import Command
from tests.patience import PATIENCE_SECONDS

CLIENTS = 8
TOKENS = 150
STEP_MILLISECONDS = 20
"""So long a step takes at least, or answers would be whole before the worker is killed."""

OVERRIDES = (
    "vllm.dtype=float32",
    "vllm.max_num_seqs=32",
    "graph.capture_sizes=[8, 32]",
    f"emulated.device_time.fixed={STEP_MILLISECONDS}",
)

_BODY = {"model": "demo", "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True, "stream": True}
_WHOLE = {**_BODY, "stream": False}
_USAGE = {"stream_options": {"include_usage": True}}
_HELLO = [{"role": "user", "content": "Hello"}]


def completion(text: str | list[int], **body: Any) -> Question:
    return Question("/v1/completions", {**_BODY, "prompt": text, **body})


GREEDY = {f"client {number}": completion(f"question {number}", **_USAGE) for number in range(CLIENTS)}
OTHERS = {
    "seed": completion("seeded", temperature=0.9, seed=7),
    "seed, top p and top k": completion("also seeded", temperature=0.9, seed=8, top_p=0.9, top_k=20),
    "logprobs": completion("logprobs", logprobs=2, **_USAGE),
    "logprobs of the prompt": completion("of the prompt", echo=True, logprobs=0),
    "penalties": completion("penalties", presence_penalty=1.0, frequency_penalty=0.5, repetition_penalty=1.2),
    "two answers": completion("two answers", n=2, temperature=0.8, seed=3, **_USAGE),
    "grammar": completion("grammar", structured_outputs={"regex": f"[a-m ]{{{TOKENS}}}"}),
    "whole": Question("/v1/completions", {**_WHOLE, "prompt": "whole", "logprobs": 1}),
    "whole chat": Question("/v1/chat/completions", {**_WHOLE, "messages": _HELLO, "seed": 4, "temperature": 0.7}),
    "chat": Question("/v1/chat/completions", {**_BODY, "messages": _HELLO, "logprobs": True, **_USAGE}),
    "responses": Question(
        "/v1/responses", {"model": "demo", "input": "Hi", "max_output_tokens": TOKENS, "temperature": 0, "stream": True}
    ),
    "messages": Question("/v1/messages", {**_BODY, "messages": _HELLO}),
}


@dataclass(frozen=True)
class Told:
    """What was seen of a loss.

    Attributes:
        right: Answers without it.
        got: Answers over it.
        health: Answer of ``/health`` meanwhile.
        new: Answer to a new request meanwhile.
        report: ``/graph/report`` meanwhile.
    """

    right: dict[str, Answer]
    got: dict[str, Answer]
    health: httpx.Response
    new: httpx.Response
    report: dict[str, Any]


@pytest.fixture(scope="module")
def server(start: Callable[..., Command]) -> Iterator[Command]:
    yield from start(*OVERRIDES).serving()


@pytest.fixture(scope="module")
def http(server: Command) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture(scope="module")
def told(http: httpx.Client) -> Told:
    """One loss under all of them; stop strings are taken from where the answers are half through."""
    url = str(http.base_url)
    seen: list[Any] = []
    questions = GREEDY | OTHERS
    texts = ask_all(url, {name: GREEDY[name] for name in ("client 0", "client 1")})
    for included, (name, answer) in enumerate(texts.items()):
        late = answer.texts[0][2 * len(answer.texts[0]) // 3 :][:5]
        body = {**questions[name].body, "stop": [late], "include_stop_str_in_output": bool(included)}
        questions[f"stop string {included}"] = replace(questions[name], body=body)
    right = ask_all(url, questions)

    def lose_a_worker() -> None:
        os.kill(http.get("/graph/report").json()["ranks"][1]["pid"], signal.SIGKILL)
        while (health := http.get("/health")).status_code == 200:
            time.sleep(0.05)
        new = http.post("/v1/completions", json={**_WHOLE, "prompt": "new"})
        while (report := http.get("/graph/report").json())["recovering_since"] is None:
            time.sleep(0.05)
        seen.extend((health, new, report))

    got = ask_all(url, questions, lose_a_worker)
    return Told(right, got, *seen)


def test_every_client_gets_the_whole_answer(told: Told) -> None:
    assert {name: answer.error for name, answer in told.got.items() if answer.error} == {}
    assert [name for name, answer in told.got.items() if not answer.is_whole] == []


@pytest.mark.parametrize("name", [*GREEDY, *OTHERS, "stop string 0", "stop string 1"])
def test_an_answer_is_that_of_an_undisturbed_engine(told: Told, name: str) -> None:
    right, got = told.right[name], told.got[name]
    assert got.texts == right.texts
    assert (got.ends, got.usage, got.tokens) == (right.ends, right.usage, right.tokens)
    assert got.logprobs[1:] == pytest.approx(right.logprobs[1:], abs=1e-3)


def test_the_loss_came_in_the_middle_of_the_streams(told: Told, http: httpx.Client) -> None:
    assert all(answer.comments for name, answer in told.got.items() if name in GREEDY)
    assert {answer.comments[-1] for answer in told.got.values() if answer.comments} == {
        ": the engine was replaced; what is sampled without a seed goes on with other noise"
    }
    metrics = http.get("/metrics").text
    counted = {
        outcome: float(value)
        for outcome, value in re.findall(r'ascend_serve_lost_engine_requests_total\{outcome="(\w+)"\} (\S+)', metrics)
    }
    assert counted["failed"] == counted["given_up"] == 0
    assert counted["continued"] >= len(GREEDY)
    assert f"ascend_serve_lost_engine_gap_seconds_count {sum(counted.values())}" in metrics


def test_meanwhile_new_requests_are_refused_and_everybody_is_told_since_when(told: Told, http: httpx.Client) -> None:
    assert (told.health.status_code, told.new.status_code) == (503, 503)
    assert "Retry-After" in told.new.headers
    since = told.health.json()["recovering_since"]
    assert since == told.report["recovering_since"]
    died = [event["time"] for event in told.report["events"] if event["kind"] == "engine_died"]
    assert all(abs(since - moment) < PATIENCE_SECONDS for moment in died)
    assert http.get("/graph/report").json()["recovering_since"] is None


DEADLY = 230
"""Tokens of the one prompt that ends engines: more than any other step has, fewer than several others together."""
DECODING = range(DEADLY, DEADLY + CLIENTS + 1)
"""Tokens of a step with that prompt, and as many clients as decode meanwhile."""
OTHER_TOKENS = 60


@pytest.mark.slow
@pytest.mark.parametrize("end", ["crash", "hang"])
def test_a_request_that_ends_every_engine_is_given_up_and_the_others_finish(
    end: str, start: Callable[..., Command]
) -> None:
    faults = ", ".join(f"{{rank: 1, phase: serve, size: {size}, error: {end}, processes: 9}}" for size in DECODING)
    command = start(*OVERRIDES, f"emulated.faults=[{faults}]", "serving.health.stall_seconds=20")
    command.wait_for("curl ")
    url = f"http://127.0.0.1:{command.port}"
    # Tokens that are no special ones, other ones for each client.
    prompts = [[10 + (number + place) % 50 for place in range(OTHER_TOKENS)] for number in range(CLIENTS)]
    questions = {f"client {number}": completion(prompt) for number, prompt in enumerate(prompts)}
    right = {name: answer for each in questions.items() for name, answer in ask_all(url, dict([each])).items()}
    told: list[httpx.Response] = []

    def send_the_deadly_one() -> None:
        body = {**_WHOLE, "prompt": [7] * DEADLY, "max_tokens": 4}
        told.append(httpx.post(f"{url}/v1/completions", json=body, timeout=PATIENCE_SECONDS))

    got = ask_all(url, questions, send_the_deadly_one)
    assert {name: (answer.error, answer.texts) for name, answer in got.items()} == {
        name: (None, answer.texts) for name, answer in right.items()
    }
    assert told[0].status_code == 400
    assert "not tried again" in told[0].text
    events = httpx.get(f"{url}/graph/report").json()["events"]
    assert len([event for event in events if event["kind"] in ("engine_died", "engine_stalled")]) == 2
    assert command.end(signal.SIGINT) == 130
