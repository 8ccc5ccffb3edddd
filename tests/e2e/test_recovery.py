"""A replica whose engine is lost, under load: what its clients see, and what comes back. One start for all tests.

Requests under way fail here; how they go on is in `test_continuation`.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from ascend_serve.api.retry_after import LONGEST_SECONDS, SHORTEST_SECONDS
from tests.e2e.command import Command
from tests.e2e.load import Load, Verdict
from tests.e2e.metrics import counters, gauge
from tests.e2e.sdks.sdk import INSTALLED, Call
from tests.patience import PATIENCE_SECONDS, wait_until

STALL_SECONDS = 30
"""Only the scripted rank stays silent for so long, however busy the machine."""
IDLE_DECODES = "ascend_serve_idle_decodes_total"
SPARES = "ascend_serve_spare_workers"
HELD = "ascend_serve_held_weights_bytes"
REPLIES_UNTIL_FOUND = 300
"""So many answers later a new controller has asked the replicas by far."""
FATAL_PROMPT = 37
"""Tokens of the one prompt that the scripted rank hangs at."""
TRIES = 20
"""Of an SDK: as many as a busy machine needs. What its own default reaches over is in `test_sdks`."""

_TALK = {"model": "demo", "stream": True, "temperature": 0}
LONG: dict[str, dict[str, Any]] = {
    "/v1/responses": {**_TALK, "input": "Hello", "max_output_tokens": 200},
    "/v1/messages": {**_TALK, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 200},
}
"""Streams that are under way for seconds, of the APIs whose events have names; sampled ones may end at any token."""

FAULT_OF_THE_RESTART = "{rank: 0, phase: join, error: crash, incarnation: 1}"

OVERRIDES = (
    f"serving.health.stall_seconds={STALL_SECONDS}",
    "serving.health.idle_decode_seconds=4",
    "serving.recovery.requests=fail",
    f"emulated.faults=[{{rank: 1, phase: serve, size: {FATAL_PROMPT}, error: hang}}, {FAULT_OF_THE_RESTART}]",
)


@pytest.fixture(scope="module")
def server(start: Callable[..., Command]) -> Iterator[Command]:
    yield from start(*OVERRIDES).serving()


@pytest.fixture(scope="module")
def http(server: Command) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture(scope="module")
def load(http: httpx.Client) -> Load:
    return Load(str(http.base_url))


def test_a_stalled_rank_is_found_and_the_engine_replaced(http: httpx.Client, load: Load) -> None:
    request = {"model": "demo", "prompt": [1] * FATAL_PROMPT, "max_tokens": 4}
    assert http.get("/health").status_code == 200
    before = counters(http)["vllm:request_success_total"]
    answer = http.post("/v1/completions", json=request, timeout=PATIENCE_SECONDS)
    assert answer.status_code == 503
    assert http.get("/health").status_code == 503
    _wait_until_healthy(http)
    assert counters(http)["vllm:request_success_total"] == before
    assert http.post("/v1/completions", json=request).status_code == 200
    assert _kinds(http) == ["engine_stalled", "engine_restarted"]
    assert re.search(r"rank 1 \(.*\) stands in \w*hang", http.get("/graph/report").text)


def test_an_idle_engine_decodes_to_see_that_it_can(http: httpx.Client) -> None:
    before = counters(http)
    assert wait_until(lambda: counters(http)[IDLE_DECODES] > before[IDLE_DECODES])
    assert of_clients(counters(http)) == of_clients(before)


def test_a_killed_worker_under_load_leaves_no_doubt_and_callers_of_sdks_notice_nothing(
    server: Command, http: httpx.Client, load: Load
) -> None:
    call = Call(f"http://127.0.0.1:{server.port}", delay=0, tries=TRIES)
    under_way = {sdk.name: sdk.begin([call]) for sdk in INSTALLED}
    pid = http.get("/graph/report").json()["ranks"][1]["pid"]
    with load.running():
        time.sleep(2)
        with ExitStack() as stack:
            streams = [stack.enter_context(http.stream("POST", path, json=body)) for path, body in LONG.items()]
            events = [stream.iter_lines() for stream in streams]
            assert all(next(lines).startswith("event: ") for lines in events)
            os.kill(pid, signal.SIGKILL)
            ends = [[line for line in lines if line][-2:] for lines in events]
        for calling in under_way.values():
            calling.go()
        load.wait_until_back(time.monotonic(), PATIENCE_SECONDS)
    assert [name for name, _ in ends] == ["event: error"] * len(LONG)
    assert all("The engine is being replaced; try again." in data for _, data in ends)
    assert set(load.verdicts()) == {Verdict.RIGHT, Verdict.CLEAN_ERROR}
    refused = [reply for reply in load.replies if reply.status == 503]
    assert refused
    assert all(SHORTEST_SECONDS <= int(reply.retry_after) <= LONGEST_SECONDS for reply in refused)
    outcomes = {name: calling.outcomes()[0] for name, calling in under_way.items()}
    assert {name: outcome.error for name, outcome in outcomes.items()} == dict.fromkeys(outcomes, "")
    assert all(outcome.seconds > SHORTEST_SECONDS for outcome in outcomes.values())


def test_a_death_is_told_on_the_terminal_and_leaves_a_file(server: Command) -> None:
    server.wait_for(r"warning: demo: engine died: rank 1 \(.*SIGKILL")
    *_, file = re.findall(r"What was known of it is in (\S+)", server.text())
    will = Path(file)
    assert will.stat().st_mode & 0o777 == 0o600
    assert will.read_text().startswith("The engine was lost, demo: rank 1")
    assert "== end of the log of rank 1" in will.read_text()
    will.unlink()


def test_the_new_engine_holds_the_same_plan_and_tells_what_happened(http: httpx.Client) -> None:
    report = http.get("/graph/report").json()
    assert report["outcome"] == "graph"
    assert report["capture_sizes"] == [1, 2, 4]
    assert [(rank["graphs"], rank["incarnation"]) for rank in report["ranks"]] == [(3, 3), (3, 3)]
    assert _kinds(http)[-2:] == ["engine_died", "engine_restarted"]
    assert any("rank 1" in event["text"] for event in report["events"] if event["kind"] == "engine_died")


def test_restarts_are_counted(http: httpx.Client) -> None:
    metrics = http.get("/metrics").text
    assert 'ascend_serve_engine_restarts_total{reason="died"} 1.0' in metrics
    assert 'ascend_serve_engine_restarts_total{reason="stalled"} 1.0' in metrics
    assert "ascend_serve_engine_restart_seconds_count 2.0" in metrics


@pytest.mark.slow
def test_a_killed_replica_is_replaced_by_serve(server: Command, http: httpx.Client, load: Load) -> None:
    replicas = [process for process in server.processes() if process.name().startswith("ray::ServeRepli")]
    assert len(replicas) == 1
    with load.running():
        time.sleep(2)
        replicas[0].kill()
        load.wait_until_back(time.monotonic(), PATIENCE_SECONDS)
    assert not load.verdicts().keys() & {Verdict.WRONG, Verdict.CUT, Verdict.HANG}
    refused = [reply for reply in load.replies if reply.status >= 500]
    assert {(reply.status, bool(reply.retry_after)) for reply in refused} <= {(503, True)}
    assert http.get("/graph/report").json()["outcome"] == "graph"


def test_serves_controller_comes_back_to_replicas_that_serve_on(
    server: Command, http: httpx.Client, load: Load
) -> None:
    ranks = http.get("/graph/report").json()["ranks"]
    controller, said = _controller(server), len(server.text())
    with load.running():
        os.kill(controller, signal.SIGKILL)
        assert wait_until(lambda: _controller(server) not in (0, controller))
        asked = len(load.replies)
        assert wait_until(lambda: len(load.replies) > asked + REPLIES_UNTIL_FOUND or server.process.poll() is not None)
    assert set(load.verdicts()) == {Verdict.RIGHT}
    assert http.get("/graph/report").json()["ranks"] == ranks
    assert "No replica of demo answers" not in server.text()[said:]


@pytest.fixture
def sound(start: Callable[..., Command]) -> Iterator[httpx.Client]:
    """A server without faults: a rank that fails in the restart, as above, takes what it held with it."""
    for command in start().serving():
        with httpx.Client(base_url=f"http://127.0.0.1:{command.port}", timeout=PATIENCE_SECONDS) as client:
            yield client


@pytest.mark.slow
def test_ranks_of_a_replacement_copy_their_weights_from_the_memory_of_their_host(sound: httpx.Client) -> None:
    assert wait_until(lambda: gauge(sound, SPARES) == 2)
    held = gauge(sound, HELD)
    assert held > 0
    os.kill(sound.get("/graph/report").json()["ranks"][1]["pid"], signal.SIGKILL)
    assert wait_until(lambda: "engine_restarted" in _kinds(sound))
    events = sound.get("/graph/report").json()["events"]
    (restarted,) = [event for event in events if event["kind"] == "engine_restarted"]
    assert restarted["copied_ranks"] == 2
    assert "weights of 2 ranks from the memory of their host" in restarted["text"]
    assert wait_until(lambda: gauge(sound, SPARES) == 2)
    assert gauge(sound, HELD) == held


def _controller(server: Command) -> int:
    """Process id of Serve's controller; 0 where there is none."""
    found = (process.pid for process in server.processes() if process.name().startswith("ray::ServeCont"))
    return next(found, 0)


def of_clients(counted: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in counted.items() if name.startswith(("vllm:", "http_"))}


def _wait_until_healthy(http: httpx.Client) -> None:
    assert wait_until(lambda: http.get("/health").status_code == 200), http.get("/graph/report").text


def _kinds(http: httpx.Client) -> list[str]:
    """Kinds of the events of the engine's life, oldest first."""
    events: list[dict[str, Any]] = http.get("/graph/report").json()["events"]
    return [event["kind"] for event in events if event["kind"].startswith(("engine_", "restart_"))]


@pytest.mark.slow
def test_a_rank_that_is_stopped_is_named_and_not_the_one_that_waits_for_it(http: httpx.Client) -> None:
    before = _kinds(http)
    os.kill(http.get("/graph/report").json()["ranks"][1]["pid"], signal.SIGSTOP)
    assert wait_until(lambda: len(_kinds(http)) >= len(before) + 2)
    assert _kinds(http)[len(before) :] == ["engine_stalled", "engine_restarted"]
    (text,) = [
        event["text"] for event in http.get("/graph/report").json()["events"] if "cannot even tell" in str(event)
    ]
    assert re.search(r"within 30 s: rank 1 \(.*\) cannot even tell where: .*; meanwhile rank 0 \(.*\) stands in", text)
