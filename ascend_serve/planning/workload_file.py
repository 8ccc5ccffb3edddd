"""The file of a workload, which `ascend_serve.graph.workload` understands."""

from __future__ import annotations

from pathlib import Path

from ascend_serve.errors import ConfigError


def read_workload(path: str) -> str:
    """What the file holds.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}", "Give a file that exists and can be read.") from error
