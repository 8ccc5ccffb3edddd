"""What a command leaves behind when it ends otherwise than it was asked to."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ascend_serve.cache import failure_folder
from ascend_serve.cli.failure_record import FailureRecord
from ascend_serve.cli.output import print_error
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.errors import AscendServeError, ClusterError, ConfigError, EngineError
from ascend_serve.events import Started
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.telemetry.event_log import EventLog

CONFIG = AscendServeConfig.model_validate({"model": {"path": "/models/m"}})


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where files are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return failure_folder()


@pytest.fixture
def record(tmp_path: Path) -> FailureRecord:
    found = FailureRecord(CONFIG, time.time() - 10.0)
    found.ray_logs = tmp_path / "logs"
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "raylet.err").write_text("no room\n")
    return found


def raised(record: FailureRecord, error: Exception) -> AscendServeError:
    with pytest.raises(AscendServeError) as caught, record.of_errors():
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        pytest.param(ClusterError("no proxy", "try again"), "no proxy", id="known"),
        pytest.param(KeyError("size"), "The deployment did not start: KeyError: 'size'", id="unforeseen"),
    ],
)
def test_a_start_that_fails_leaves_one_that_is_named(
    record: FailureRecord, kept: Path, capsys: pytest.CaptureFixture[str], error: Exception, problem: str
) -> None:
    told = raised(record, error)
    assert told.problem == problem
    (file,) = kept.iterdir()
    print_error(told)
    assert f"kept:  all that was known is in {file}" in capsys.readouterr().err
    text = file.read_text()
    assert text.startswith(f"The deployment did not start, m: {problem}")
    assert "raylet.err\nno room" in text


def test_what_is_the_user_s_to_correct_leaves_none(record: FailureRecord, kept: Path) -> None:
    error = ConfigError("graph.mdoe", "Did you mean graph.mode?")
    assert raised(record, error) is error
    assert not kept.exists()


def test_what_a_replica_has_kept_is_not_kept_twice(record: FailureRecord, kept: Path) -> None:
    error = EngineError("lost")
    error.record = "/there.txt on 10.0.0.2"
    assert raised(record, error).record == "/there.txt on 10.0.0.2"
    assert not kept.exists()


@pytest.mark.parametrize("name", ["m", "another"])
def test_the_events_of_this_deployment_are_in_it(record: FailureRecord, kept: Path, name: str) -> None:
    EventLog.kept(name).append(
        Started(
            time=time.time(),
            name=name,
            group="g",
            requested_runtime=RuntimeName.ACLGRAPH,
            requested_mode=GraphMode.FULL,
            planned=(),
            options={},
            multiple_of=1,
            largest_batch=8,
            versions={},
        )
    )
    text = record.of_replica(CONFIG, "its worker process was ended by SIGKILL")
    (file,) = kept.iterdir()
    assert text == f"its worker process was ended by SIGKILL\nWhat was known of it is in {file}"
    assert ("== report" in file.read_text()) is (name == "m")


def test_events_that_cannot_be_read_do_not_stand_in_the_way(record: FailureRecord, kept: Path) -> None:
    EventLog.kept("m")
    assert raised(record, EngineError("lost")).problem == "lost"
    (file,) = kept.iterdir()
    assert "== report" not in file.read_text()


def test_what_comes_of_a_signal_leaves_none(record: FailureRecord, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ascend_serve.cli.failure_record.is_end_asked", lambda: True)
    with pytest.raises(KeyError), record.of_errors():
        raise KeyError("what was interrupted")
    assert not kept.exists()
