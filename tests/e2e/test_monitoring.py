"""A real Prometheus that scrapes a real deployment: every query has an answer, every alert fires on its scripted fault.

How long an alert waits is shortened here; ``tests/unit/launch/test_monitoring.py`` has the rules as they are.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.command import Command
from tests.patience import PATIENCE_SECONDS, wait_until
from tests.ports import free_port

PROMETHEUS = shutil.which("prometheus")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROMETHEUS is None, reason="Prometheus is not installed"),
]

FOLDER = Path(__file__).parents[2] / "launch" / "monitoring"
PANELS = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))["panels"]
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
QUERIES = {
    **{f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]},
    **{rule["alert"]: re.sub(r" (>|==) [\d.]+$", "", rule["expr"]) for rule in RULES},
}
"""Of alerts, what is compared with their bound."""
KEY = "the-key-of-this-test"
BEARER = {"Authorization": f"Bearer {KEY}"}
LARGEST_SIZE = 4


def hurried(rules: str) -> str:
    """The rules, which look back 20 seconds only, and wait for one."""
    return re.sub(r"\[\d+[mh]\]", "[20s]", re.sub(r"for: \w+", "for: 1s", rules))


def ask(server: Command, prompts: int) -> None:
    """Have so many requests decode together."""
    body = {"model": "demo", "prompt": ["a"] * prompts, "max_tokens": 100, "ignore_eos": True}
    url = f"http://127.0.0.1:{server.port}/v1/completions"
    assert httpx.post(url, json=body, headers=BEARER, timeout=PATIENCE_SECONDS).status_code == 200


def stop_rank(server: Command) -> None:
    """Have rank 1 answer no more."""
    url = f"http://127.0.0.1:{server.port}/graph/report"
    os.kill(httpx.get(url, headers=BEARER, timeout=PATIENCE_SECONDS).json()["ranks"][1]["pid"], signal.SIGSTOP)


@pytest.fixture(scope="module")
def server(start: Callable[..., Command], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """One that was refused streams for one of its graphs, with room for batches above its largest."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(KEY)
    # No plan that an earlier start remembered.
    env = {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    overrides = ("emulated.stream_quota=[2048, 7]", f"vllm.max_num_seqs={LARGEST_SIZE + 2}")
    command = start(f"serving.api_key_file={keys}", *overrides, env=env)
    command.wait_for("curl ")
    yield command
    assert command.end(signal.SIGINT) == 130


@pytest.fixture(scope="module")
def prometheus(server: Command, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    (folder / "key").write_text(KEY)
    (folder / "alerts.yaml").write_text(hurried((FOLDER / "alerts.yaml").read_text(encoding="utf-8")))
    scrape = {
        "job_name": "ascend-serve",
        "authorization": {"credentials_file": str(folder / "key")},
        "static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}],
    }
    configuration = {
        # A replica whose ranks are silent answers after a second.
        "global": {"scrape_interval": "3s", "scrape_timeout": "3s", "evaluation_interval": "1s"},
        "scrape_configs": [scrape],
        "rule_files": [str(folder / "alerts.yaml")],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    command = [str(PROMETHEUS), *options, f"--web.listen-address=127.0.0.1:{port}"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS, trust_env=False)
        finally:
            process.terminate()


def answers(prometheus: httpx.Client, query: str) -> list[Any]:
    """What a query gives, for one replica and the last ten seconds."""
    query = query.replace("$instance", ".*").replace("$__rate_interval", "10s").replace("[5m]", "[10s]")
    try:
        told = prometheus.get("/api/v1/query", params={"query": query}).json()
    except httpx.TransportError:
        return []
    assert told["status"] == "success", (query, told)
    result: list[Any] = told["data"]["result"]
    return result


@pytest.fixture(scope="module")
def scraped(prometheus: httpx.Client, server: Command) -> httpx.Client:
    """After some load."""
    assert wait_until(lambda: bool(answers(prometheus, "ascend_serve_graph_outcome")))
    for _ in range(5):
        ask(server, 3)
    return prometheus


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_has_an_answer(name: str, scraped: httpx.Client) -> None:
    assert wait_until(lambda: bool(answers(scraped, QUERIES[name]))), QUERIES[name]


LOADS = {"AscendServePadding": 1, "AscendServeEager": LARGEST_SIZE + 2}
"""Alerts about batches, and how many requests at once are their fault here: the graph of one was refused."""


def firing(prometheus: httpx.Client) -> set[str]:
    """Alerts that Prometheus tells of."""
    alerts = prometheus.get("/api/v1/alerts").json()["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def test_a_degraded_start_is_an_alert(scraped: httpx.Client) -> None:
    assert wait_until(lambda: "AscendServeDegraded" in firing(scraped))


@pytest.mark.parametrize("alert", LOADS)
def test_batches_that_fit_no_graph_are_an_alert(alert: str, scraped: httpx.Client, server: Command) -> None:
    def fires() -> bool:
        ask(server, LOADS[alert])
        return alert in firing(scraped)

    assert alert not in firing(scraped)
    assert wait_until(fires)


def test_a_silent_rank_is_an_alert_and_so_is_the_engine_that_it_costs(scraped: httpx.Client, server: Command) -> None:
    alerts = ("AscendServeRankSilent", "AscendServeEngineReplaced")
    assert not firing(scraped) & set(alerts)
    stop_rank(server)
    for alert in alerts:
        assert wait_until(lambda: alert in firing(scraped)), alert  # noqa: B023


def test_these_are_all_alerts() -> None:
    tested = {"AscendServeDegraded", *LOADS, "AscendServeRankSilent", "AscendServeEngineReplaced"}
    assert tested == {rule["alert"] for rule in RULES}
