"""``ascend_serve.Engine`` as a notebook uses it: real engines on emulated NPUs, in a process with a running loop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def seen(config: Callable[[int], Path]) -> dict[str, Any]:
    env = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "tests.e2e.notebook", str(config(8000))]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_one_text_is_one_prompt(seen: dict[str, Any]) -> None:
    assert seen["one text"] == [None]


def test_two_engines_of_one_process_answer_alike(seen: dict[str, Any]) -> None:
    assert len(seen["first"]) == 1
    assert seen["first"] == seen["second"] == seen["second, once the first is closed"]


def test_a_seed_draws_alike_however_many_steps_the_prompt_takes(seen: dict[str, Any]) -> None:
    assert len(seen["seeded"][0]) == 4
    assert seen["seeded, in steps"] == seen["seeded"]


def test_the_loop_goes_on_while_a_thread_waits(seen: dict[str, Any]) -> None:
    assert seen["ticks"] > 1


def test_an_engine_too_many_is_told_who_holds_the_npus(seen: dict[str, Any]) -> None:
    assert "c needs 1 NPU, but of the cluster's 2 this process holds 2" in seen["third"]["problem"]
    assert "a (1), b (1)" in seen["third"]["problem"]
    assert "close()" in seen["third"]["remedy"]


def test_an_engine_that_does_not_run_says_so(seen: dict[str, Any]) -> None:
    assert "The engine of a does not run" in seen["before"]["problem"]
    assert "start()" in seen["before"]["remedy"]
    assert "runs already" in seen["twice"]["problem"]


def test_the_last_engine_ends_the_cluster(seen: dict[str, Any]) -> None:
    assert seen["cluster left"] is False
