"""A Ray cluster of this machine alone, for as long as a command runs."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import ray

from ascend_serve.cluster.connect import NAMESPACE, Cluster, current_cluster
from ascend_serve.cluster.placement import NPU
from ascend_serve.cluster.processes import shielded_from_signals
from ascend_serve.errors import ClusterError

_CPUS_BESIDE_RANKS = 2
"""Ray counts a CPU for the replica and one for each engine of a data-parallel group, however few cores there are."""

_OBJECT_STORE_BYTES = 256 * 2**20
"""Requests and answers pass through it, weights and activations do not; Ray's default is 30% of the memory."""

_MINIMAL = {
    "RAY_prestart_worker_first_driver": "0",  # Idle workers would import Ray while the replica wants the cores.
    "RAY_USAGE_STATS_ENABLED": "0",
}


@contextlib.contextmanager
def local_cluster(
    npus: int, *, env: Mapping[str, str], verbose: bool = False, dashboard: bool = False
) -> Iterator[Cluster]:
    """Start a Ray cluster on this machine and stop it at the end.

    Its logs are removed when the block ends well and kept when it raises an error that is not an interruption.

    Args:
        npus: Emulated NPUs to offer; 0 lets Ray find the real ones.
        env: Variables for all processes of the cluster.
        verbose: Whether logs of all processes are shown here.
        dashboard: Whether to start Ray's dashboard.

    Raises:
        ClusterError: Ray did not start.
    """
    # Paths of Unix sockets are limited to 107 characters, so the folder is near the root.
    folder = Path(tempfile.mkdtemp(prefix="ascend-serve-", dir="/tmp"))
    try:
        with _environment({**_MINIMAL, **env}):
            yield _start(folder, npus, verbose=verbose, dashboard=dashboard)
    except Exception:
        _stop(folder, keep_logs=True)
        raise
    except BaseException:
        _stop(folder)
        raise
    _stop(folder)


def _start(folder: Path, npus: int, *, verbose: bool, dashboard: bool) -> Cluster:
    try:
        context = ray.init(
            address="local",
            resources={NPU: npus} if npus else None,
            num_cpus=max(os.cpu_count() or 1, npus + _CPUS_BESIDE_RANKS),
            num_gpus=0,
            include_dashboard=dashboard,
            object_store_memory=_OBJECT_STORE_BYTES,
            namespace=NAMESPACE,
            log_to_driver=verbose,
            logging_level=logging.INFO if verbose else logging.CRITICAL,
            _temp_dir=str(folder),
        )
    except Exception as error:
        raise ClusterError(
            f"A local Ray cluster did not start: {error}", f"Its logs are in {folder}/session_latest/logs."
        ) from error
    url = f"http://{context.dashboard_url}" if context.dashboard_url else None
    return replace(current_cluster(), local=True, dashboard=url)


def _stop(folder: Path, *, keep_logs: bool = False) -> None:
    with shielded_from_signals():
        try:
            ray.shutdown()
        finally:
            if not keep_logs:
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _environment(env: Mapping[str, str]) -> Iterator[None]:
    """Set variables for as long as the block runs: Ray's processes inherit this process's environment."""
    previous = dict(os.environ)
    os.environ.update(env)
    try:
        yield
    finally:
        for name in env:
            os.environ.pop(name, None)
            if name in previous:
                os.environ[name] = previous[name]
