"""What is said of a scheduler that was asked to run ahead and does not."""

from __future__ import annotations

import logging

import pytest

from ascend_serve.engine import async_llm


@pytest.mark.parametrize(
    ("asked", "ahead", "warned"),
    [
        pytest.param(True, False, True, id="asked for in vain"),
        pytest.param(True, True, False, id="asked for"),
        pytest.param(None, False, False, id="left to vLLM"),
        pytest.param(False, False, False, id="turned off"),
    ],
)
def test_a_scheduler_that_does_not_run_ahead_as_asked_is_told(
    asked: bool | None, ahead: bool, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, async_llm.logger.name):
        async_llm._warn_of_scheduling(asked, ahead)
    assert ("vllm.async_scheduling: true has no effect" in caplog.text) is warned
