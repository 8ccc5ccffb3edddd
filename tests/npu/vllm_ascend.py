"""Processes in which vLLM and vllm-ascend run on the simulated CANN; no other process sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ascend_serve.releases import ModelRunner, Release, release_of

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / ".cache/cann/vllm-ascend"
IMPORTED = SOURCES / "imported"
"""Packages that each release imports and the project does not have."""


def _releases(*versions: str) -> tuple[Release, ...]:
    return tuple(release for version in versions if (release := release_of(version)) is not None)


RELEASES = _releases("0.23.0", "0.26.0rc1")
"""Those whose sources are fetched (``vendor.py``) and started here."""


@dataclass(frozen=True)
class Stack:
    """A release with one of its model runners."""

    release: Release
    runner: ModelRunner

    @property
    def name(self) -> str:
        """For people and ids of tests."""
        return f"{self.release.vllm_ascend} {self.runner.name}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that each of its processes needs."""
        path = (ROOT / "tests/cann_sim/python", SOURCES / self.release.vllm_ascend, IMPORTED, ROOT)
        return {
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:False",
            "VLLM_DISABLE_COMPILE_CACHE": "1",
            "VLLM_LOGGING_LEVEL": "ERROR",
            "VLLM_USE_V2_MODEL_RUNNER": str(int(self.runner is ModelRunner.V2)),
            # Its sources are not installed as a package.
            "VLLM_VERSION": self.release.vllm,
        }


STARTER = "from tests.npu.start import main; main()"
"""Runs starts, and reports them."""

STACKS = tuple(Stack(release, runner) for release in RELEASES for runner in release.runners)


def told_by(
    stack: Stack, program: str, argument: str, cache: Path, seconds: float, **environment: str
) -> dict[str, Any]:
    """What a program prints in its last line, as JSON.

    Args:
        stack: What it can import.
        program: Its text.
        argument: The word after it.
        cache: Where vLLM keeps what it compiles.
        seconds: How long it may take.
        environment: Further variables.
    """
    done = subprocess.run(
        [sys.executable, "-c", program, argument],
        cwd=ROOT,
        env=os.environ | stack.environment | environment | {"VLLM_CACHE_ROOT": str(cache)},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told
