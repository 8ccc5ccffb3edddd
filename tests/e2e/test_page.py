"""The page at ``/graph`` in a real browser: while ranks capture, while an engine serves, is lost, and comes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ascend_serve.telemetry.rank_matrix import CAPTURED, CAPTURING, FAILED, HELD, PLANNED
from tests.e2e.browser import CHROMIUM, Page, page
from tests.e2e.command import Command
from tests.e2e.conftest import COMMAND
from tests.patience import PATIENCE_SECONDS, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]

KEY = "the-key-of-this-test"
PICTURES = os.environ.get("PICTURES")
"""Where to put the pictures of the documents; nowhere when not set."""
QUOTA = "emulated.stream_quota=[2048, 7]"
"""Room for two of three graphs on rank 1."""

ROWS = "[...document.querySelectorAll('.matrix tbody tr')]"
CELLS = f"{ROWS}.map(row => [...row.querySelectorAll('td.cell')].map(cell => cell.title))"
STATE = "document.getElementById('state').innerText"


@pytest.fixture(scope="module")
def server(start: Callable[..., Command], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(KEY)
    # No plan that an earlier start remembered.
    env = {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    yield from start(f"serving.api_key_file={keys}", QUOTA, env=env).serving()


@pytest.fixture(scope="module")
def http(server: Command) -> Iterator[httpx.Client]:
    bearer = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE_SECONDS, headers=bearer) as client:
        yield client


@pytest.fixture(scope="module")
def browser(server: Command) -> Iterator[Page]:
    """The page, opened as a person does who types a key where the browser asks for a password."""
    with page() as opened:
        opened.look()
        opened.open(f"http://anybody:{KEY}@127.0.0.1:{server.port}/graph")
        assert wait_until(lambda: "Live" in opened.run("document.getElementById('connection').innerText"))
        opened.run("window.sameDocument = 1")
        yield opened


def cells(browser: Page) -> list[list[str]]:
    found: list[list[str]] = browser.run(CELLS)
    return found


def test_it_shows_what_was_given_up_and_why(browser: Page) -> None:
    assert cells(browser) == [
        ["given up", "held by all ranks", "held by all ranks"],
        ["failed here", "held by all ranks", "held by all ranks"],
    ]
    text = browser.run("document.body.innerText")
    for part in ("degraded: less than was asked for", "It serves.", "Cause: rank 1", "What to do:", "FULL/1"):
        assert part in text


def test_it_follows_the_load(browser: Page, http: httpx.Client) -> None:
    body = {"model": "demo", "prompt": ["a", "b", "c"], "max_tokens": 40, "ignore_eos": True, "temperature": 0}
    assert http.post("/v1/completions", json=body).status_code == 200

    def padded() -> Any:
        return browser.run("[...document.querySelectorAll('#batches tbody tr')].map(row => row.innerText)")

    assert wait_until(lambda: any(row.split()[0] == "3" and "graph of 4" in row for row in padded())), padded()
    if PICTURES:
        browser.look(width=1000, height=1250)
        browser.picture(Path(PICTURES) / "graph-page.png")
    assert "Padding wastes" in browser.run("document.getElementById('batches').innerText")


def test_a_loss_and_the_capture_of_the_next_engine_are_shown_without_a_reload(
    browser: Page, http: httpx.Client
) -> None:
    browser.look(width=360, height=1250, dark=True)
    pid = http.get("/graph/report").json()["ranks"][1]["pid"]
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: "away" in browser.run(STATE), pause=0.05)
    assert "SIGKILL" in browser.run(STATE)
    assert "rank 1" in browser.run(STATE)
    seen: set[str] = set()

    def is_back() -> bool:
        now = {text for row in cells(browser) for text in row}
        if PICTURES and (now - seen) & {CAPTURING.text, CAPTURED.text}:
            browser.picture(Path(PICTURES) / "graph-page-phone.png")
        seen.update(now)
        return "It serves." in browser.run(STATE)

    assert wait_until(is_back, pause=0.02)
    assert seen & {PLANNED.text, CAPTURING.text, CAPTURED.text}, seen
    assert {text for row in cells(browser) for text in row} == {"held by all ranks"}
    assert browser.run("window.sameDocument") == 1
    assert "engine restarted" in browser.run("document.getElementById('steps').innerText")
    assert browser.complaints == []


def test_the_page_as_a_file_needs_nothing(server: Command, browser: Page, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [*COMMAND, "report", "demo", "--html", str(file)]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    assert "<script" not in file.read_text()
    browser.open(file.as_uri())
    assert "It serves." in browser.run(STATE)
    assert "graph of 4" in browser.run("document.body.innerText")
    assert browser.complaints == []
    assert json.dumps(browser.run("performance.getEntriesByType('resource').map(entry => entry.name)")) == "[]"


SLOW_THEN_SHORT = """emulated.faults=[
    {rank: 0, phase: capture, size: 4, error: slow},
    {rank: 1, phase: capture, size: 1, error: stream_exhausted},
]"""
"""Rank 1 has to wait for its peer at the first graph, and is refused streams for the last."""


@contextmanager
def followed(env: Mapping[str, str]) -> Iterator[str]:
    """The address that ``ascend-serve report --follow`` prints for the start on this machine."""
    command = [*COMMAND, "report", "--follow"]
    with subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def test_a_first_start_is_followed_while_its_ranks_capture_and_one_fails(
    start: Callable[..., Command], tmp_path: Path
) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path)}
    command = start(SLOW_THEN_SHORT, env=env)
    assert wait_until(lambda: any(tmp_path.glob("*/events/*.jsonl")) or command.process.poll() is not None)
    with followed(env) as address, page() as opened:
        opened.open(address)
        opened.run("window.sameDocument = 1")
        seen: list[list[list[str]]] = []

        def is_over() -> bool:
            seen.append(cells(opened))
            return "It serves." in opened.run(STATE) or command.process.poll() is not None

        assert wait_until(is_over, pause=0.05)
        pairs = [(first, second) for ranks in seen if len(ranks) == 2 for first, second in zip(*ranks, strict=True)]
        assert (CAPTURING.text, CAPTURED.text) in pairs
        assert cells(opened) == [["given up", HELD.text, HELD.text], [FAILED.text, HELD.text, HELD.text]]
        text = opened.run("document.body.innerText")
        for part in ("Cause: rank 1", "Stream resources are insufficient", "What to do:"):
            assert part in text
        assert opened.run("window.sameDocument") == 1
        assert opened.complaints == []
    command.wait_for("curl ")
    assert command.end(signal.SIGINT) == 130
