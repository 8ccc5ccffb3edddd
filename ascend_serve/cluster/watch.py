"""Watches over the processes of a local cluster that Ray does not start again when they end."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import ray

from ascend_serve.errors import ClusterError
from ascend_serve.graph.death import death_by_exit_code

OnLoss = Callable[[ClusterError], None]
"""What to do when the cluster is lost, told why; runs in a thread of its own, because others may wait for Ray."""

_VITAL = {"gcs_server": "Ray's control service (GCS)", "raylet": "Ray's manager of this machine (raylet)"}
"""Ray's names (2.60.0) of the processes that a cluster of one machine cannot do without, and what they are.

Without the first, Ray lets 60 seconds pass and then ends this process; without the second everything waits for ever.
"""

_LOOK_SECONDS = 0.5


class ClusterWatch:
    """Looks after the cluster that this process has started, until `stop`.

    Args:
        processes: The processes that may not end, by Ray's names.
        logs: Where they log.
        on_loss: What to do when one ends.
    """

    def __init__(self, processes: Mapping[str, subprocess.Popen[bytes]], logs: Path, on_loss: OnLoss) -> None:
        self._processes = processes
        self._logs = logs
        self._on_loss = on_loss
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="cluster-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer; waits for ``on_loss`` if that has begun."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            ended = {name: code for name, process in self._processes.items() if (code := process.poll()) is not None}
            if ended and not self._stopped.is_set():
                self._on_loss(self._error(*next(iter(ended.items()))))
                return

    def _error(self, name: str, code: int) -> ClusterError:
        death = death_by_exit_code(code, _VITAL[name])
        return ClusterError(
            f"The local Ray cluster is lost: {death.text}, and Ray starts no other",
            f"Start again; what it logged is in {self._logs}/{name}.out and .err. {death.advice}",
        )


def vital_processes() -> dict[str, subprocess.Popen[bytes]]:
    """The processes of the cluster that this process has started which may not end; private names of Ray 2.60.0."""
    started = ray._private.worker._global_node.all_processes
    return {name: started[name][0].process for name in _VITAL}
