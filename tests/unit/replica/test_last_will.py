"""What a lost engine leaves behind."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from ascend_serve.capture.roster import RankState
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.errors import AscendServeError, CaptureError, EngineError
from ascend_serve.events import RestartFailed
from ascend_serve.graph.death import WorkerLog
from ascend_serve.replica import last_will
from ascend_serve.replica.last_will import LastWill, newest_logs
from tests.reports import REPORT

CONFIG = AscendServeConfig.model_validate({"model": {"path": "/models/m"}, "graph": {"mode": "FULL"}})
LOST = REPORT.model_copy(
    update={
        "ranks": (RankState(rank=1, incarnation=0, node="node-b", pid=77, graphs=3),),
        "events": (RestartFailed(time=0.0, text="fewer sizes"),),
    }
)


@pytest.fixture(autouse=True)
def logs(monkeypatch: pytest.MonkeyPatch) -> None:
    log = WorkerLog("/logs/77.err", ("a traceback",), ("a last word",))
    monkeypatch.setattr(last_will, "read_here", {77: log}.get)


def test_it_holds_all_that_was_known(tmp_path: Path) -> None:
    file = LastWill(CONFIG, tmp_path / "failures").leave("rank 1 was killed", LOST)
    assert file is not None
    text = file.read_text()
    assert text.startswith("The engine was lost, m: rank 1 was killed\n")
    for part in ("Python 3", "torch 2", "fewer sizes", "mode: FULL", "rank 1, process 77 on node-b", "a traceback"):
        assert part in text


def test_it_is_its_users_alone(tmp_path: Path) -> None:
    file = LastWill(CONFIG, tmp_path / "failures").leave("lost", REPORT)
    assert file is not None
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_the_oldest_of_many_go(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"2000-01-{number:02}.txt").touch()
    file = LastWill(CONFIG, tmp_path).leave("lost", REPORT)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == 20
    assert file is not None
    assert left[-1] == file.name


def test_where_none_can_be_written_the_engine_is_replaced_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Whatever vLLM's imports made of the root logger.
    caplog.set_level(logging.WARNING, last_will.logger.name)
    (tmp_path / "file").touch()
    assert LastWill(CONFIG, tmp_path / "file").leave("lost", REPORT) is None
    assert "cannot be kept" in caplog.text


@pytest.mark.parametrize(
    ("error", "kind", "problem"),
    [
        pytest.param(CaptureError("rank 1 failed", "set graph.mode=NONE"), CaptureError, "rank 1 failed", id="known"),
        pytest.param(KeyError("size"), EngineError, "The engine did not start: KeyError: 'size'", id="unforeseen"),
    ],
)
def test_a_start_that_fails_leaves_one_whatever_the_error(
    error: Exception, kind: type[AscendServeError], problem: str, tmp_path: Path
) -> None:
    (tmp_path / "raylet.err").write_text("no room\n")
    told = LastWill(CONFIG, tmp_path / "failures").of_error(
        error, LOST, logs=[tmp_path / "raylet.err", tmp_path / "gone"]
    )
    assert (type(told), told.problem) == (kind, problem)
    (file,) = (tmp_path / "failures").iterdir()
    assert told.record == str(file)
    text = file.read_text()
    for part in (f"The engine did not start, m: {problem}", "fewer sizes", "no room", "No such file"):
        assert part in text


def test_a_start_leaves_no_more_than_one(tmp_path: Path) -> None:
    will = LastWill(CONFIG, tmp_path)
    will.of_error(will.of_error(EngineError("lost"), LOST), None)
    assert len(list(tmp_path.iterdir())) == 1


def test_one_has_a_bound(tmp_path: Path) -> None:
    many = REPORT.model_copy(update={"events": (RestartFailed(time=0.0, text="x" * 3_000_000),)})
    file = LastWill(CONFIG, tmp_path).leave("lost", many)
    assert file is not None
    assert file.stat().st_size <= 2**20


def test_of_many_logs_those_are_told_that_were_written_to_last(tmp_path: Path) -> None:
    (tmp_path / "serve").mkdir()
    (tmp_path / "empty.err").touch()
    for number, name in enumerate([*(f"{each}.out" for each in range(20)), "raylet.err", "serve/replica.log"]):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (number, number))
    found = [file.name for file in newest_logs(tmp_path)]
    assert found == ["replica.log", "raylet.err", *(f"{each}.out" for each in range(19, 9, -1))]
