"""The page of a start that goes on, from the file of its events."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ascend_serve.events import Ready, Warming
from ascend_serve.telemetry.event_log import EventLog
from ascend_serve.telemetry.page_server import FileFollower, PageServer
from tests.patience import PATIENCE_SECONDS
from tests.unit.telemetry.test_event_log import STARTED, many, session


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    log = EventLog(tmp_path / "1.jsonl")
    log.append(STARTED)
    return log


@pytest.fixture
def server(log: EventLog) -> Iterator[PageServer]:
    assert log.file is not None
    server = PageServer(log.file)
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield server
    server.stop()
    thread.join()


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=PATIENCE_SECONDS) as client:
        yield client


def test_it_follows_a_start_from_its_file(server: PageServer, log: EventLog, http: httpx.Client) -> None:
    page = http.get(server.url)
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "ranks load the model" in page.text
    events = session()
    half = next(number for number, event in enumerate(events) if isinstance(event, Warming)) + 1
    with http.stream("GET", f"{server.url}/stream") as stream:
        told = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: "))
        assert "starting" in next(told)["state"]
        log.append(*events[:half])
        assert "warming up or capturing" in next(told)["matrix"]
        log.append(*events[half:], Ready(time=9.0))
        assert "It serves." in next(told)["state"]


@pytest.mark.parametrize("path", ["/graph", "/", "/guess/graph", "/guess/graph/stream"])
def test_whoever_does_not_know_the_word_sees_nothing(server: PageServer, http: httpx.Client, path: str) -> None:
    assert http.get(httpx.URL(server.url).join(path)).status_code == 404


def test_a_line_that_is_half_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    file, line = tmp_path / "1.jsonl", f"{STARTED.model_dump_json()}\n"
    file.write_text(line[:20])
    follower = FileFollower(file)
    assert follower.story().started is None
    file.write_text(line)
    assert follower.story().started == STARTED


def test_a_file_that_is_written_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "1.jsonl", most_bytes=10_000)
    log.append(STARTED)
    follower = FileFollower(tmp_path / "1.jsonl")
    latest = None
    for event in many(200):
        log.append(event)
        latest = follower.story().latest
    assert latest is not None
    assert latest.key == "FULL/199"
    assert follower.story().started == STARTED
