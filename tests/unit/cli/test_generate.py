"""What ``generate`` refuses before it starts anything, and how it tells of its progress in a log."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ascend_serve.cli.generate import ProgressLines
from ascend_serve.cli.main import app
from ascend_serve.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(["--input", "/nowhere", "--output", "-"], "/nowhere: no such file", id="no input"),
        pytest.param(["--input", "-", "--output", "-", "--resume"], "- cannot be continued", id="a stream goes on"),
        pytest.param(["--input", "-", "--output", "/nowhere/out"], "/nowhere does not exist", id="no folder"),
    ],
)
def test_refuses_before_anything_starts(options: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["generate", "demo", *options], input="")
    assert isinstance(result.exception, ConfigError)
    assert words in result.exception.problem


def test_an_output_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    result = CliRunner().invoke(
        app, ["generate", "demo", "--input", "-", "--output", str(tmp_path / "out")], input='{"prompt": "a"}'
    )
    assert "exists" in str(result.exception)


def test_progress_is_told_now_and_then_and_at_the_end() -> None:
    times = iter((0.0, 4.0, 11.0, 12.0, 13.0))
    told = ProgressLines(total=5, done=1, every=10, clock=lambda: next(times))
    assert [told.advance(failed) for failed in (0, 1, 1, 1)] == [
        "",
        "generate: 3 of 5, 1 failed, 0.182/s, 11 s left",
        "",
        "generate: 5 of 5, 1 failed, 0.308/s",
    ]
