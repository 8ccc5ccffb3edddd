"""What ``ascend-serve status`` and ``ascend-serve report`` print of what is known."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from ascend_serve.capture.roster import RankState
from ascend_serve.cli import report as report_command
from ascend_serve.cli.main import app
from ascend_serve.cli.status import duration, status_table
from ascend_serve.errors import EventFileError
from ascend_serve.events import EngineDied, EngineRestarted, Event, PhaseEnded, Ready
from ascend_serve.telemetry.event_log import EventLog
from ascend_serve.telemetry.replica_status import ClusterStatus, DeploymentStatus, ReplicaLoad, ReplicaStatus
from ascend_serve.telemetry.story import Story
from tests.reports import REPORT
from tests.unit.telemetry.test_event_log import STARTED, session

SERVING = ReplicaStatus(
    replica="abc",
    state="serving",
    since=1000.0,
    load=ReplicaLoad(running=3, waiting=1),
    report=REPORT.model_copy(update={"capture_sizes": (1, 8), "ranks": (RankState(0), RankState(1))}),
)
STARTING = ReplicaStatus(replica="def", state="starting", detail="capture, 3 of 5 graphs on 2 ranks")


def printed(told: ClusterStatus) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(status_table(told, now=1000.0 + 3 * 3600 + 120))
    return out.getvalue()


@pytest.mark.parametrize(
    ("deployments", "parts"),
    [
        pytest.param((), ["The cluster has no deployment."], id="none"),
        pytest.param(
            (DeploymentStatus(name="demo", state="RUNNING", replicas=(SERVING,)),),
            ["demo", "abc", "serving", "graph aclgraph FULL 1 8", "3 run, 1 wait", "3 h 2 min"],
            id="one that serves",
        ),
        pytest.param(
            (DeploymentStatus(name="demo", state="DEPLOYING", replicas=(STARTING,)),),
            ["def", "starting", "capture, 3 of 5 graphs on 2 ranks"],
            id="one that starts",
        ),
        pytest.param(
            (DeploymentStatus(name="demo", state="DEPLOY_FAILED", message="no NPUs [bold]left"),),
            ["none", "deploy_failed", "demo: DEPLOY_FAILED: no NPUs [bold]left"],
            id="one that failed",
        ),
    ],
)
def test_every_replica_is_a_row(deployments: tuple[DeploymentStatus, ...], parts: list[str]) -> None:
    text = printed(ClusterStatus(deployments=deployments))
    assert [part for part in parts if part not in text] == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (61, "1 min 1 s"), (7322, "2 h 2 min"), (90000, "1 d 1 h"), (-5, "0 s")],
)
def test_a_duration_has_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def whole_start() -> list[Event]:
    """A start of 20 seconds, and a recovery."""
    captures = [event.model_copy(update={"time": 12.0 + event.time}) for event in session(quota=3)]
    again = [event.model_copy(update={"time": event.time + 100, "incarnation": 1}) for event in captures]
    return [
        STARTED,
        PhaseEnded(time=0.0, phase="replica_process", seconds=4.0),
        PhaseEnded(time=7.0, phase="imports", seconds=7.0),
        *captures,
        PhaseEnded(time=18.0, phase="engine", seconds=11.0),
        PhaseEnded(time=20.0, phase="warm_up", seconds=2.0),
        Ready(time=20.0),
        EngineDied(time=100.0, incarnation=0, text="rank 1 was killed"),
        *again,
        EngineRestarted(time=125.0, incarnation=1, seconds=25.0, text="serving again after 25.0 s"),
    ]


def test_a_start_is_told_phase_by_phase() -> None:
    story = Story.of(whole_start()[:-2])
    until_ready = Story.of(event for event in whole_start() if event.time <= 20.0)
    spans = [(span.name, round(span.seconds)) for span in until_ready.timeline.spans]
    assert spans == [
        ("replica_process", 4),
        ("imports", 7),
        ("load", 5),
        ("agree", 0),
        ("capture", 0),
        ("engine", 6),
        ("warm_up", 2),
    ]
    assert story.timeline.since is not None


def test_after_a_recovery_its_phases_are_told() -> None:
    story = Story.of(whole_start())
    assert [(span.name, round(span.seconds)) for span in story.timeline.spans] == [
        ("load", 12),
        ("agree", 0),
        ("capture", 0),
    ]
    assert story.timeline.since is None


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of event files, with one in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    log = EventLog.kept("demo")
    log.append(*whole_start())
    assert log.file is not None
    return log.file


def test_the_report_of_the_last_start_on_this_machine(kept: Path) -> None:
    done = CliRunner().invoke(app, ["report"])
    assert done.exit_code == 0, done.output
    for part in ("degraded", "replanned", "engine died", "rank 1 was killed", "load", "serving again after 25.0 s"):
        assert part in done.output


def test_a_file_is_read_as_it_is(kept: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(kept), "--json"])
    told = json.loads(done.stdout)
    assert told["capture_sizes"] == [2, 4, 8]
    assert [event["kind"] for event in told["events"]][:2] == ["started", "phase"]


def test_a_name_that_never_ran_is_an_error(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_command, "_answers", lambda method, name: [])
    done = CliRunner().invoke(app, ["report", "nobody"])
    assert isinstance(done.exception, EventFileError)
    assert "of a start of nobody" in str(done.exception)
