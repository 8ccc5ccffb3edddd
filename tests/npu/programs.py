"""Programs that end badly get a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap


def run(program: str, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``program`` after the usual imports, and return what it printed."""
    source = "import torch, torch_npu\nx = torch.ones(4).npu()\ntorch.npu.synchronize()\n" + textwrap.dedent(program)
    return subprocess.run(
        [sys.executable, "-c", source],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
