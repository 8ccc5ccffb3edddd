"""Processor time of a system under test: of each of its processes, and summed by what they do."""

from __future__ import annotations

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

ROLES: tuple[tuple[str, str], ...] = (
    ("worker", r"^VLLM::Worker|^ray::\w*WorkerProc\b|^ray::RayWorker"),
    # Spawned by vLLM, or forked from the process that has imported it (`ascend_serve.engine.prefork`).
    ("engine core", r"^VLLM::EngineCore|multiprocessing\.forkserver"),
    ("HAProxy", r"^(\S*/)?haproxy\b|^ray::HAProxy"),
    ("proxy", r"^ray::ProxyActor"),
    ("controller", r"^ray::ServeController"),
    ("replica", r"^ray::(ServeReplica\b|\w*Replica\b)"),
    ("raylet and GCS", r"^\S*/(raylet|gcs_server)\b"),
    ("Ray's agents", r"^ray::\w*Agent\b|/ray/(dashboard|autoscaler|_private)/"),
    ("capture driver", r"^ray::CaptureDriver"),
    ("API server", r"vllm\.entrypoints\.cli\.main serve"),
    ("command", r"ascend_serve\.cli\.main serve|benchmarks\.serving\.(direct|ray_llm)"),
    ("server", r"benchmarks\.ingress_scale\.server"),
    ("clients", r"benchmarks\.ingress_scale\.client"),
)
"""Roles by what a process list shows (vLLM 0.32.0 and Ray 2.60.0); the first that fits counts."""

OTHER = "other"


def role(command_line: str) -> str:
    """What a process does, by what a process list shows of it."""
    return next((name for name, pattern in ROLES if re.search(pattern, command_line)), OTHER)


@dataclass(frozen=True)
class Usage:
    """Processor seconds so far, by process.

    Attributes:
        seconds: By process identifier and start time, so that a number that is used again is another process.
        roles: What each of them does.
    """

    seconds: Mapping[tuple[int, float], float]
    roles: Mapping[tuple[int, float], str]


def usage(parent: int) -> Usage:
    """User and system time of all processes below ``parent`` (``/proc/PID/stat``)."""
    seconds, roles = {}, {}
    for process in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            with process.oneshot():
                times = process.cpu_times()
                key = process.pid, process.create_time()
                roles[key] = role(" ".join(process.cmdline()) or process.name())
            seconds[key] = times.user + times.system
    return Usage(seconds, roles)


def spent(before: Usage, after: Usage) -> dict[str, float]:
    """Processor seconds between two looks, by role; a process that is new began at zero."""
    total: dict[str, float] = defaultdict(float)
    for key, seconds in after.seconds.items():
        total[after.roles[key]] += seconds - before.seconds.get(key, 0.0)
    return dict(total)


@dataclass(frozen=True)
class MachineTime:
    """Seconds of all processors together since the machine started.

    Attributes:
        busy: Spent in processes and in the kernel.
        steal: Taken by other guests of the same host.
        total: All, the idle ones too.
    """

    busy: float
    steal: float
    total: float


def machine_time(stat: str | None = None) -> MachineTime:
    """Read the first line of ``/proc/stat``; proc(5): user, nice, system, idle, iowait, irq, softirq, steal."""
    line = (stat if stat is not None else Path("/proc/stat").read_text()).partition("\n")[0]
    values = [int(value) / os.sysconf("SC_CLK_TCK") for value in line.split()[1:9]]
    idle, steal = values[3] + values[4], values[7]
    return MachineTime(sum(values) - idle - steal, steal, sum(values))
