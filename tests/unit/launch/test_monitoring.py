"""The alert rules and the dashboard name metrics that exist, and an alert fires on what it is for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ascend_serve.telemetry.event_reference import metrics
from tests.documents import text_of

FOLDER = Path(__file__).parents[3] / "launch" / "monitoring"
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))
ALERTS = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
OURS = {name: labels for name, _, labels, _ in metrics()}
PROMTOOL = shutil.which("promtool")


def queries() -> Iterator[tuple[str, str]]:
    """Every query, with what asks it."""
    for panel in DASHBOARD["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    yield from ((rule["alert"], rule["expr"]) for rule in RULES)


@pytest.mark.parametrize(("asks", "query"), list(queries()), ids=[name for name, _ in queries()])
def test_every_query_names_metrics_and_labels_that_exist(asks: str, query: str) -> None:
    for name, matchers in re.findall(r"(ascend_serve_\w+)(?:\{([^}]*)\})?", query):
        known = OURS[name]
        named = set(re.findall(r"(\w+)\s*(?:=|!=|=~)\s*\"", matchers)) - {"instance"}
        assert named <= set(known), (name, named, known)
    assert "ascend_serve_" in query or "vllm:" in query


def test_panels_lie_beside_each_other_and_have_ids_of_their_own() -> None:
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]}
    assert len(places) == len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in DASHBOARD["panels"])


REPLICA = 'instance="10.0.0.1:8000"'
FAULTS: dict[str, dict[str, str]] = {
    "AscendServeDegraded": {'ascend_serve_graph_outcome{outcome="degraded"}': "1x40"},
    "AscendServeEager": {
        'ascend_serve_steps_total{kind="decode",replay="eager"}': "0+20x40",
        'ascend_serve_steps_total{kind="decode",replay="exact"}': "0+80x40",
    },
    "AscendServePadding": {
        'ascend_serve_padding_tokens_total{kind="decode"}': "0+60x40",
        'ascend_serve_step_tokens_total{kind="decode"}': "0+100x40",
    },
    "AscendServeRankSilent": {"ascend_serve_heartbeat_timestamp_seconds": "0+0x40"},
    "AscendServeEngineReplaced": {'ascend_serve_engine_restarts_total{reason="died"}': "0x10 1x30"},
}
"""What Prometheus scrapes, once a minute, in the state that each alert is for."""
WELL: dict[str, str] = {
    'ascend_serve_graph_outcome{outcome="graph"}': "1x40",
    'ascend_serve_graph_outcome{outcome="degraded"}': "0x40",
    'ascend_serve_steps_total{kind="decode",replay="eager"}': "0+1x40",
    'ascend_serve_steps_total{kind="decode",replay="exact"}': "0+99x40",
    'ascend_serve_padding_tokens_total{kind="decode"}': "0+10x40",
    'ascend_serve_step_tokens_total{kind="decode"}': "0+100x40",
    "ascend_serve_heartbeat_timestamp_seconds": "0+60x40",
    'ascend_serve_engine_restarts_total{reason="died"}': "3x40",
}


def test_every_alert_has_its_fault() -> None:
    assert FAULTS.keys() == {rule["alert"] for rule in RULES}


@pytest.mark.skipif(PROMTOOL is None, reason="promtool, of Prometheus, is not installed")
@pytest.mark.parametrize("alert", FAULTS)
@pytest.mark.parametrize("fault", [True, False], ids=["on its fault", "and not when all is well"])
def test_an_alert_fires(alert: str, fault: bool, tmp_path: Path) -> None:
    assert PROMTOOL is not None
    series = {**WELL, **FAULTS[alert]} if fault else WELL
    told: dict[str, Any] = {
        "rule_files": [str(FOLDER / "alerts.yaml")],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": _of_replica(name), "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
                        "eval_time": "30m",
                        "exp_samples": [{"labels": "{}", "value": int(fault)}],
                    }
                ],
            }
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump(told))
    done = subprocess.run([PROMTOOL, "test", "rules", str(file)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool, of Prometheus, is not installed")
def test_the_configuration_of_the_documents(tmp_path: Path) -> None:
    assert PROMTOOL is not None
    shutil.copy(FOLDER / "alerts.yaml", tmp_path)
    (tmp_path / "key").write_text("a key")
    file = tmp_path / "prometheus.yml"
    file.write_text(text_of("docs/observability.md: Metrics (yaml)").replace("/etc/prometheus", str(tmp_path)))
    done = subprocess.run([PROMTOOL, "check", "config", str(file)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout


def _of_replica(series: str) -> str:
    """A series with the label that Prometheus gives it."""
    return f"{series[:-1]},{REPLICA}}}" if series.endswith("}") else f"{series}{{{REPLICA}}}"
