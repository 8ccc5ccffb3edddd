"""Handlers outlive a library that configures logging: each case runs in a Python of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_HANDLER = """
import logging, logging.config, logging.handlers
from pathlib import Path

# As Ray Serve has it in a replica.
handler = logging.handlers.MemoryHandler(1000, target=logging.FileHandler("serve.log"))
logging.getLogger("ray.serve").addHandler(handler)
"""

_JUDGE = """
logging.getLogger("ray.serve").warning("Serve's own word")
handler.flush()
logging.getLogger("library").warning("a library's word")
print(handler.target is not None, Path("serve.log").read_text().strip(), sep="|")
"""

_LIBRARY = """
logging.config.dictConfig({
    "version": 1, "disable_existing_loggers": False,
    "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
    "loggers": {"library": {"handlers": ["out"], "propagate": False}},
})
"""

_KEEP = """
from ascend_serve.replica.log_handlers import keep_handlers
keep_handlers()
"""


def _ran(folder: Path, *parts: str) -> list[str]:
    command = [sys.executable, "-c", "".join(parts)]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.splitlines()


def test_python_itself_closes_them(tmp_path: Path) -> None:
    assert _ran(tmp_path, _HANDLER, _LIBRARY, _JUDGE) == ["a library's word", "False|"]


@pytest.mark.parametrize("times", [1, 2], ids=["one library", "two libraries"])
def test_they_write_on_and_the_library_has_its_own(tmp_path: Path, times: int) -> None:
    told = _ran(tmp_path, _HANDLER, _KEEP, _LIBRARY * times, _JUDGE)
    assert told == ["a library's word", "True|Serve's own word"]


def test_all_are_flushed_at_the_end(tmp_path: Path) -> None:
    words = """logging.getLogger("ray.serve").warning("the last word")"""
    assert _ran(tmp_path, _HANDLER, _KEEP, _LIBRARY, words) == []
    assert (tmp_path / "serve.log").read_text() == "the last word\n"
