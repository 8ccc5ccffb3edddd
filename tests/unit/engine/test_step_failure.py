"""Why a step failed is told by the rank, once, before the error goes on its way."""

from __future__ import annotations

from typing import Any

import pytest

from ascend_serve.engine.step_failure import tell_of_failed_steps
from ascend_serve.graph.death import Death

DEVICE = "operator():OpCommand.cpp:117 NPU function error: AclopCompileAndExecute, error code is 500002\n[Error]: GE"


class Worker:
    """Fails as the steps of a worker do under async scheduling, where one is under way behind the one that fails."""

    def execute_model(self, tokens: int) -> str:
        if tokens == 0:
            raise RuntimeError(DEVICE)
        return f"{tokens} tokens"

    def sample_tokens(self, grammar: Any) -> str:
        raise KeyError("request-1")

    def add_lora(self) -> None:
        raise ValueError("no such adapter")


def _watched() -> tuple[Worker, list[Death]]:
    worker, told = Worker(), list[Death]()
    tell_of_failed_steps(worker, told.append)
    return worker, told


def test_the_first_error_is_told_and_raised_and_what_follows_from_it_is_not_told() -> None:
    worker, told = _watched()
    assert worker.execute_model(4) == "4 tokens"
    with pytest.raises(RuntimeError, match="500002"):
        worker.execute_model(0)
    with pytest.raises(KeyError):
        worker.sample_tokens(None)
    (death,) = told
    assert death.text.startswith("a step failed: RuntimeError: operator():")
    assert "error code is 500002" in death.text
    assert "\n" not in death.text
    assert death.advice


def test_an_error_of_another_call_ends_no_engine() -> None:
    worker, told = _watched()
    with pytest.raises(ValueError, match="adapter"):
        worker.add_lora()
    assert told == []
