from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from ascend_serve.cli.doctor import doctor


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """This machine with nothing listening where the cluster should be."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    return monkeypatch


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(doctor)
    return app


def test_a_cluster_that_cannot_be_reached_is_a_finding(app: typer.Typer, machine: pytest.MonkeyPatch) -> None:
    answer = CliRunner().invoke(app, ["--json"])
    assert answer.exit_code == 1
    diagnosis = json.loads(answer.stdout)
    connection = diagnosis["cluster"][0]
    assert (connection["check"], connection["status"]) == ("connection", "fail")
    assert "127.0.0.1:1" in connection["text"]
    assert "ray status" in connection["fix"]
    assert "RAY_AUTH_MODE=token" in connection["fix"]


def test_this_machine_is_checked_all_the_same(app: typer.Typer, machine: pytest.MonkeyPatch) -> None:
    (node,) = json.loads(CliRunner().invoke(app, ["--json"]).stdout)["nodes"]
    assert {"devices", "shared memory", "packages"} <= {line["check"] for line in node["lines"]}
    assert all(line["fix"] for line in node["lines"] if line["status"] != "ok")


def test_prints_a_table_per_node(app: typer.Typer, machine: pytest.MonkeyPatch) -> None:
    answer = CliRunner().invoke(app, [])
    assert answer.exit_code == 1
    assert "shared memory" in answer.stdout
    assert "fail" in answer.stdout.splitlines()[-1]
