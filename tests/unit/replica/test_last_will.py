"""What a lost engine leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from ascend_serve.capture.roster import RankState
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.events import RestartFailed
from ascend_serve.graph.death import WorkerLog
from ascend_serve.replica import last_will
from ascend_serve.replica.last_will import LastWill
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
    assert text.startswith("The engine of m was lost: rank 1 was killed\n")
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
    (tmp_path / "file").touch()
    assert LastWill(CONFIG, tmp_path / "file").leave("lost", REPORT) is None
    assert "cannot be kept" in caplog.text
