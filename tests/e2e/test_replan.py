"""Replanning: a server under load captures the sizes that the load needs, and nobody notices."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.e2e.command import Command
from tests.patience import PATIENCE_SECONDS

CLIENTS = 4
XLITE = ("graph.runtime=xlite", "vllm.dtype=float32")
"""Xlite takes decode steps alone, and sums in other steps than the model: in bfloat16 the answer would depend on which
requests happen to share a step with another's prompt."""
OVERRIDES = ("graph.capture_sizes=[1, 8]", "vllm.max_num_seqs=8", "graph.replan=idle")
LOOK_SECONDS = 30
"""Several times as long as a replica waits before it looks at what was counted."""


def test_sizes_follow_the_load_without_a_failed_or_different_answer(start: Callable[..., Command]) -> None:
    server = start(*OVERRIDES)
    server.wait_for("ready")
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE_SECONDS) as client:
        answers = [_round(client)]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while _report(client)["capture_sizes"] != [CLIENTS, 8] and time.monotonic() < deadline:
            answers.append(_round(client))
        answers += [_round(client), _round(client)]
        report, histogram = _report(client), client.get("/graph/histogram").json()
    assert report["capture_sizes"] == [CLIENTS, 8]
    assert report["outcome"] == "graph"
    assert [rank["graphs"] for rank in report["ranks"]] == [2, 2]
    assert all(answer == answers[0] for answer in answers)
    assert histogram[str(CLIENTS)] >= 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "runtime", "sizes"),
    [
        pytest.param(XLITE, "xlite", [1, 8], id="xlite captures nothing"),
        pytest.param((*XLITE, "emulated.xlite.missing_on=[1]"), "aclgraph", [CLIENTS, 8], id="aclgraph in its place"),
    ],
)
def test_with_xlite_only_what_is_captured_follows_the_load(
    overrides: tuple[str, ...], runtime: str, sizes: list[int], start: Callable[..., Command]
) -> None:
    server = start(*OVERRIDES, *overrides)
    server.wait_for("ready")
    assert "graph.replan has no effect with graph.runtime: xlite" in server.text()
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=PATIENCE_SECONDS) as client:
        answers = [_round(client)]
        deadline = time.monotonic() + (PATIENCE_SECONDS if runtime == "aclgraph" else LOOK_SECONDS)
        while time.monotonic() < deadline and (runtime == "xlite" or _report(client)["capture_sizes"] != sizes):
            answers.append(_round(client))
        report = _report(client)
    assert (report["runtime"], report["capture_sizes"]) == (runtime, sizes)
    assert all(answer == answers[0] for answer in answers)


def _round(client: httpx.Client) -> list[str]:
    """All clients ask once; then there is an idle moment."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda number: _ask(client, number), range(CLIENTS)))
    time.sleep(0.2)
    return answers


def _ask(client: httpx.Client, number: int) -> str:
    body = {"model": "demo", "prompt": f"request {number}", "max_tokens": 32, "temperature": 0, "ignore_eos": True}
    response = client.post("/v1/completions", json=body)
    assert response.status_code == 200, response.text
    text: str = response.json()["choices"][0]["text"]
    return text


def _report(client: httpx.Client) -> dict[str, Any]:
    report: dict[str, Any] = client.get("/graph/report").json()
    return report
