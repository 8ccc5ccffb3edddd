from __future__ import annotations

import sys
from pathlib import Path

from ascend_serve.node.tool import ToolStatus, run_tool
from tests.patience import PATIENCE_SECONDS


def test_keeps_what_the_tool_said() -> None:
    answer = run_tool(
        [sys.executable, "-c", "import sys; print('out'); sys.stderr.write('err')"], timeout=PATIENCE_SECONDS
    )
    assert answer.status is ToolStatus.OK
    assert "out" in answer.text
    assert "err" in answer.text


def test_a_missing_tool_is_an_answer() -> None:
    assert run_tool(["no-such-tool-here"], timeout=PATIENCE_SECONDS).status is ToolStatus.MISSING


def test_a_failing_tool_is_an_answer() -> None:
    assert run_tool([sys.executable, "-c", "raise SystemExit(3)"], timeout=PATIENCE_SECONDS).status is ToolStatus.FAILED


def test_a_tool_that_hangs_is_an_answer() -> None:
    answer = run_tool([sys.executable, "-c", "import time; time.sleep(3600)"], timeout=0.2)
    assert answer.status is ToolStatus.TIMED_OUT


def test_a_tool_that_may_not_run_is_an_answer(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("not a program")
    assert run_tool([str(tool)], timeout=PATIENCE_SECONDS).status is ToolStatus.FAILED
