"""Running a vendor's command line tool, where not having it is an answer too."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class ToolStatus(StrEnum):
    """How running a tool ended."""

    OK = "ok"
    MISSING = "missing"
    FAILED = "failed"
    TIMED_OUT = "timed_out"


class ToolOutput(BaseModel):
    """What a tool said.

    Attributes:
        status: How it ended.
        text: Standard output and standard error, in one.
    """

    model_config = ConfigDict(frozen=True)

    status: ToolStatus
    text: str = ""


def run_tool(command: Sequence[str], timeout: float) -> ToolOutput:
    """Run ``command`` for at most ``timeout`` seconds; never raises for what the tool does."""
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        return ToolOutput(status=ToolStatus.MISSING)
    except subprocess.TimeoutExpired:
        return ToolOutput(status=ToolStatus.TIMED_OUT, text=f"no answer within {timeout:g} s")
    except OSError as error:
        return ToolOutput(status=ToolStatus.FAILED, text=str(error))
    return ToolOutput(status=ToolStatus.FAILED if done.returncode else ToolStatus.OK, text=done.stdout)
