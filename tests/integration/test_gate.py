"""What `plan` accepts, a start does not refuse for a reason that was known before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_vllm_refuses_nothing_that_plan_accepts() -> None:
    command = [sys.executable, "-m", "tests.integration.gate", "2000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert min(told.values()) > 200, told
