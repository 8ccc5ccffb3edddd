"""The packages around vLLM: how they are installed, and which of them break its import where they do not fit."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec

INSTALL = (
    "For emulated NPUs: `pip install torch==2.13.0`, then `ascend-serve requirements | pip install --no-deps -r "
    "/dev/stdin`. On NPUs: run `ascend-serve install` there, or use vllm-ascend's image."
)
"""What to do where vLLM is missing."""

BREAKS_IMPORTS = ("torchvision", "torchaudio", "torchcodec")
"""vLLM and transformers import these where they are there; built for another torch, they raise."""


def broken(timeout: float) -> dict[str, str]:
    """Those of `BREAKS_IMPORTS` that are installed here and cannot be imported, with the error.

    Args:
        timeout: Seconds for each import; one that takes longer is not called broken.
    """
    found = {name: _error(name, timeout) for name in BREAKS_IMPORTS if find_spec(name) is not None}
    return {name: error for name, error in found.items() if error}


def _error(name: str, timeout: float) -> str:
    """The last line of what importing a package in a process of its own says, empty where it works."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import {name}"], capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return ""
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return lines[-1] if done.returncode else ""
