"""Logs of Ray's worker processes, read from whichever node they are on."""

from __future__ import annotations

from dataclasses import dataclass

import ray

from ascend_serve.cluster.worker_death import read_at
from ascend_serve.errors import ClusterError


@dataclass(frozen=True, slots=True)
class LogPart:
    """One of the two files of a log.

    Attributes:
        path: On the node of the process.
        lines: Its end.
    """

    path: str
    lines: tuple[str, ...]


def end_of_log(pid: int, address: str) -> tuple[LogPart, LogPart]:
    """The end of what a worker process wrote to standard output and standard error.

    Args:
        pid: The process.
        address: Of its node.

    Raises:
        ClusterError: There is no such node, or no such log on it.
    """
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeManagerAddress"] == address]
    log = read_at(pid, nodes[0]) if nodes else None
    if log is None:
        raise ClusterError(
            f"The log of process {pid} on {address} cannot be read",
            "The node may be gone (`ray status`), or Ray was told not to keep logs.",
        )
    out = log.path.removesuffix(".err") + ".out"
    return LogPart(out, _whole(log.output)), LogPart(log.path, _whole(log.errors))


def _whole(lines: tuple[str, ...]) -> tuple[str, ...]:
    """Without the empty text after the last end of a line."""
    return lines[:-1] if lines and not lines[-1] else lines
