"""Processes in which vLLM and vllm-ascend run on the simulated CANN; no other process sees them.

They are both 0.23.0, unless ``ASCEND_SOURCES`` names a folder with others, and ``VLLM_VERSION`` their vLLM.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SOURCES = Path(os.environ.get("ASCEND_SOURCES", ROOT / ".cache/cann/vllm-ascend"))
FIRST_ON_THE_PATH = (ROOT / "tests/cann_sim/python", SOURCES, ROOT)
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(map(str, FIRST_ON_THE_PATH)),
    "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:False",
    "VLLM_DISABLE_COMPILE_CACHE": "1",
    "VLLM_VERSION": os.environ.get("VLLM_VERSION", "0.23.0"),
}


def told_by(program: str, argument: str, cache: Path, seconds: float, **environment: str) -> dict[str, Any]:
    """What a program prints in its last line, as JSON.

    Args:
        program: Its text.
        argument: The word after it.
        cache: Where vLLM keeps what it compiles.
        seconds: How long it may take.
        environment: Variables besides those that each of these processes needs.
    """
    done = subprocess.run(
        [sys.executable, "-c", program, argument],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT | environment | {"VLLM_CACHE_ROOT": str(cache)},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told
