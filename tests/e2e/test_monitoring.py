"""A real Prometheus that scrapes a real deployment: every query of dashboard and alert rules has an answer."""

from __future__ import annotations

import json
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


@pytest.fixture(scope="module")
def server(start: Callable[..., Command], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """One that was refused streams for one of its graphs."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(KEY)
    # No plan that an earlier start remembered.
    env = {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    command = start(f"serving.api_key_file={keys}", "emulated.stream_quota=[2048, 7]", env=env)
    command.wait_for("curl ")
    yield command
    assert command.end(signal.SIGINT) == 130


@pytest.fixture(scope="module")
def prometheus(server: Command, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    (folder / "key").write_text(KEY)
    scrape = {
        "job_name": "ascend-serve",
        "authorization": {"credentials_file": str(folder / "key")},
        "static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}],
    }
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "scrape_configs": [scrape],
        "rule_files": [str(FOLDER / "alerts.yaml")],
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
    body = {"model": "demo", "prompt": ["a", "b", "c"], "max_tokens": 100, "ignore_eos": True}
    for _ in range(5):
        url = f"http://127.0.0.1:{server.port}/v1/completions"
        answer = httpx.post(url, json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=PATIENCE_SECONDS)
        assert answer.status_code == 200
    return prometheus


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_has_an_answer(name: str, scraped: httpx.Client) -> None:
    assert wait_until(lambda: bool(answers(scraped, QUERIES[name]))), QUERIES[name]


def test_a_degraded_start_is_an_alert(scraped: httpx.Client) -> None:
    def alerts() -> list[str]:
        told = scraped.get("/api/v1/alerts").json()["data"]["alerts"]
        return [alert["labels"]["alertname"] for alert in told]

    assert wait_until(lambda: "AscendServeDegraded" in alerts()), alerts()
