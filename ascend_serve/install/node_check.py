"""What a set-up needs of a node, found before it installs anything: the doctor's checks, and what building takes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ascend_serve.doctor.release_checks import RELEASE_CHECKS
from ascend_serve.node.facts import NodeFacts
from ascend_serve.node.finding import Finding, fail, ok, warn
from ascend_serve.releases import Release

GIB = 1 << 30

NEEDED_DISK = 10 * GIB
"""An estimate: an environment with torch and vLLM has 3 GiB (measured with CPU builds); as much for pip's cache and for
the build of vllm-ascend's kernels."""

CANN_VARIABLES = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")
NNAL_VARIABLE = "ATB_HOME_PATH"
"""What ``set_env.sh`` of CANN and of NNAL set."""


@dataclass(frozen=True, slots=True)
class Room:
    """What building and installing takes.

    Attributes:
        disk_bytes: Free where packages are installed.
        environment: Variables of this process.
        compiler: The C++ compiler, or ``None``.
    """

    disk_bytes: int
    environment: Mapping[str, str]
    compiler: str | None

    @classmethod
    def here(cls) -> Room:
        """Of this process."""
        return cls(shutil.disk_usage(sys.prefix).free, dict(os.environ), shutil.which("g++"))


def examine(facts: NodeFacts, room: Room, row: Release) -> list[tuple[str, Finding]]:
    """All findings, by the name of the check."""
    return [
        *((name, check(facts, row)) for name, check in RELEASE_CHECKS.items()),
        ("disk", _disk(room)),
        *(("environment", finding) for finding in _environment(room)),
        ("compiler", ok(room.compiler) if room.compiler else fail("g++ is not on PATH", "install it, and make")),
    ]


def _disk(room: Room) -> Finding:
    free = f"{room.disk_bytes / GIB:.1f} GiB free in {sys.prefix}"
    return ok(free) if room.disk_bytes >= NEEDED_DISK else fail(free, f"make room for {NEEDED_DISK // GIB} GiB")


def _environment(room: Room) -> Iterator[Finding]:
    if not any(name in room.environment for name in CANN_VARIABLES):
        fix = "`source /usr/local/Ascend/ascend-toolkit/set_env.sh` in this shell"
        yield fail(f"CANN's environment is not set ({', '.join(CANN_VARIABLES)})", fix)
    if NNAL_VARIABLE not in room.environment:
        fix = "`source /usr/local/Ascend/nnal/atb/set_env.sh` in this shell"
        yield warn(f"NNAL's environment is not set ({NNAL_VARIABLE}), and libatb.so will be missing", fix)
