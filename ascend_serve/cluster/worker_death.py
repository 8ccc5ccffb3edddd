"""How the process of a worker ended: what Ray says of its actor, and its log, which lies on its own node."""

from __future__ import annotations

import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ascend_serve.graph.death import Death, WorkerLog, ended_loop, failed_loop, read_death

logger = logging.getLogger(__name__)

_READ_SECONDS = 10.0
"""How long another node may take to read a log; without it the message is shorter."""

_KNOW_SECONDS = 5.0
"""How long Ray may take to know that an actor is dead."""

_ASK_SECONDS = 0.2

_MOST_BYTES = 2**17
"""Enough for what faulthandler writes of all threads of a worker."""

_PID = re.compile(r"^\s*pid: (\d+)", re.MULTILINE)
_ADDRESS = re.compile(r"^\s*ip: (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class WorkerDeath:
    """A death, and where it was.

    Attributes:
        death: How the process ended.
        node: Address of its node; empty when Ray does not tell.
    """

    death: Death
    node: str = ""


def death_of(run: Any, actor: ActorHandle, node_id: str) -> WorkerDeath:
    """Tell how a worker ended.

    Args:
        run: Ray's reference to its main loop, which has ended.
        actor: The worker.
        node_id: Ray's id of its node.
    """
    try:
        ray.get(run)
    except RayActorError as error:
        return death_of_actor(error, actor, node_id)
    except RayTaskError as error:
        cause = error.cause or error
        return WorkerDeath(failed_loop(type(cause).__name__, str(cause)))
    return WorkerDeath(ended_loop())


def is_of(error: RayActorError, actor: ActorHandle) -> bool:
    """Whether ``error`` tells of the death of ``actor``, whose id is private in Ray 2.60.0."""
    return bool(error.actor_id == actor._actor_id.hex())


def death_of_actor(error: RayActorError, actor: ActorHandle, node_id: str) -> WorkerDeath:
    """Tell how the process of an actor ended.

    Args:
        error: What Ray raised; its text (2.60.0) has process id, address and what the raylet saw.
        actor: The actor.
        node_id: Ray's id of its node.
    """
    final = _final_word(error, actor)
    said = str(final)
    pid, address = _PID.search(said), _ADDRESS.search(said)
    # A node that does not answer would be asked for the log in vain.
    is_silent = isinstance(final, ActorUnavailableError)
    log = None if pid is None or is_silent else read_at(int(pid[1]), node_id)
    return WorkerDeath(read_death(said, log), address[1] if address else "")


def _final_word(error: RayActorError, actor: ActorHandle) -> RayActorError:
    """What Ray says once it knows that the actor is dead: until then it calls it unavailable."""
    deadline = time.monotonic() + _KNOW_SECONDS
    while isinstance(error, ActorUnavailableError) and (left := deadline - time.monotonic()) > 0:
        try:
            ray.get(actor.__ray_ready__.remote(), timeout=left)
        except RayActorError as later:
            error = later
        except GetTimeoutError:
            break
        time.sleep(_ASK_SECONDS)
    return error


def read_at(pid: int, node_id: str) -> WorkerLog | None:
    """As `read_log`, of a worker on any node.

    Args:
        pid: Process id of the worker.
        node_id: Ray's id of its node.
    """
    if node_id == ray.get_runtime_context().get_node_id():
        return read_here(pid)
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    reading = ray.remote(num_cpus=0, max_retries=0)(read_here).options(scheduling_strategy=there).remote(pid)
    try:
        log: WorkerLog | None = ray.get(reading, timeout=_READ_SECONDS)
    except RayError as error:
        logger.warning("The log of process %d on node %s cannot be read: %s", pid, node_id, error)
        ray.cancel(reading, force=True)
        return None
    return log


def read_here(pid: int) -> WorkerLog | None:
    """As `read_log`, of a worker on this node."""
    return read_log(_log_folder(), pid)


def _log_folder() -> Path:
    """Where Ray's workers on this node log; a private name of Ray 2.60.0."""
    return Path(ray._private.worker._global_node.get_logs_dir_path())


def read_log(folder: Path, pid: int) -> WorkerLog | None:
    """Read the end of a worker's log.

    Ray (2.60.0) names it ``worker-<worker id>-<job id>-<process id>.err``, and the one of standard output alike.

    Args:
        folder: Where Ray's workers on this node log.
        pid: Process id of the worker.

    Returns:
        The latest log of such a process; ``None`` when there is none that can be read.
    """
    try:
        found = max(folder.glob(f"worker-*-{pid}.err"), key=lambda file: file.stat().st_mtime, default=None)
        return None if found is None else WorkerLog(str(found), _tail(found), _tail(found.with_suffix(".out")), pid)
    except OSError:
        return None


def _tail(file: Path) -> tuple[str, ...]:
    with file.open("rb") as content:
        content.seek(max(0, file.stat().st_size - _MOST_BYTES), os.SEEK_SET)
        # Not splitlines(): a progress bar's carriage returns end no line.
        return tuple(content.read().decode(errors="replace").split("\n"))
