"""Programs that end badly, each in a process of its own."""

from __future__ import annotations

import os
import sys
import textwrap
import traceback
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.npu.forked import Forked


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it printed."""

    exit_code: int | None
    stdout: str
    stderr: str


def run(program: str, **environment: str) -> Ended:
    """Run ``program`` with an NPU that has just been used, and ``x``, four ones on it."""
    with TemporaryDirectory() as folder:
        stdout, stderr = Path(folder) / "stdout", Path(folder) / "stderr"
        exit_code = Forked(_run, textwrap.dedent(program), environment, stdout, stderr).exit_code()
        return Ended(exit_code, stdout.read_text(encoding="utf-8"), stderr.read_text(encoding="utf-8"))


def _run(program: str, environment: dict[str, str], stdout: Path, stderr: Path) -> None:
    import torch

    os.environ.update(environment)
    for path, descriptor in ((stdout, 1), (stderr, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    try:
        x = torch.ones(4).npu()
        torch.npu.synchronize()
        exec(program, {"torch": torch, "x": x})
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    finally:
        sys.stdout.flush()
