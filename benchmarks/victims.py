"""Processes of a server that a fault can hit, by what they are."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

import httpx
import psutil

from tests.e2e.command import Command

_ASK_SECONDS = 5.0
_NOT_THERE = (httpx.HTTPError, psutil.Error, OSError, StopIteration, IndexError)


class Fault(StrEnum):
    """What happens to which process."""

    WORKER = "worker killed"
    CORE = "engine core killed"
    REPLICA = "replica killed"
    DRIVER = "capture driver killed"
    PROXY = "proxy killed"
    HAPROXY = "HAProxy killed"
    CONTROLLER = "controller killed"
    STOPPED = "worker stopped"
    RAYLET = "raylet killed"
    GCS = "GCS killed"

    @property
    def signal(self) -> signal.Signals:
        """What the process is sent."""
        return signal.SIGSTOP if self is Fault.STOPPED else signal.SIGKILL


ENDS_A_LOCAL_CLUSTER = frozenset({Fault.RAYLET, Fault.GCS})
"""What Ray does not start again: the command has to end."""


def hit_together(faults: Sequence[Fault], command: Command) -> list[int]:
    """Let faults of rank 0 and of what is not a rank's happen at once; none where one of the processes is not there."""
    try:
        pids = [_FIND[fault](command, 0) for fault in faults]
        for fault, pid in zip(faults, pids, strict=True):
            os.kill(pid, fault.signal)
    except _NOT_THERE:
        return []
    return pids


def hit(fault: Fault, command: Command, rank: int = 0) -> int | None:
    """Let a fault happen.

    Args:
        fault: Which.
        command: The server.
        rank: Of a fault of a worker, which.

    Returns:
        The process that it has hit; ``None`` where there is no such process just now.
    """
    try:
        pid = _FIND[fault](command, rank)
        os.kill(pid, fault.signal)
    except _NOT_THERE:
        return None
    return pid


def own_memory(process: psutil.Process) -> float:
    """Memory that is the process's alone, in bytes."""
    return float(process.memory_full_info().uss)


def replica(command: Command) -> psutil.Process:
    """The process of the first replica.

    Raises:
        StopIteration: There is none.
    """
    return next(_named(command, _REPLICA))


def _worker(command: Command, rank: int) -> int:
    return int(
        httpx.get(f"{command.url}/graph/report", timeout=_ASK_SECONDS).raise_for_status().json()["ranks"][rank]["pid"]
    )


def _core(command: Command, rank: int) -> int:
    """The largest process that the replica has forked: the others wait for their turn to become one."""
    return max(replica(command).children(recursive=True), key=own_memory).pid


def _named(command: Command, name: str) -> Iterator[psutil.Process]:
    """Processes whose command line matches a regular expression."""
    for process in command.processes():
        try:
            if re.search(name, " ".join(process.cmdline())):
                yield process
        except psutil.Error:
            continue


def _first(name: str) -> Callable[[Command, int], int]:
    return lambda command, rank: next(_named(command, name)).pid


_REPLICA = "ServeReplica:demo"

_FIND: dict[Fault, Callable[[Command, int], int]] = {
    Fault.WORKER: _worker,
    Fault.STOPPED: _worker,
    Fault.CORE: _core,
    Fault.REPLICA: _first(_REPLICA),
    Fault.DRIVER: _first("^ray::CaptureDriver"),
    Fault.PROXY: _first("^ray::(ProxyActor|HAProxyManager)"),
    Fault.HAPROXY: _first("haproxy.cfg"),
    Fault.CONTROLLER: _first("^ray::ServeController"),
    Fault.RAYLET: _first(r"^\S+/raylet/raylet "),
    Fault.GCS: _first(r"^\S+/gcs_server "),
}
