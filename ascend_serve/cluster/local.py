"""A Ray cluster of this machine alone, for as long as a command runs."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import ray
from ray._private import ray_constants

from ascend_serve.cluster.connect import NAMESPACE, Cluster, current_cluster, on_loopback
from ascend_serve.cluster.placement import NPU
from ascend_serve.cluster.signals import is_end_asked, own_signals, shielded_from_signals
from ascend_serve.cluster.umask import files_for_this_user
from ascend_serve.cluster.watch import OnLoss, own_loss, vital_processes, watched
from ascend_serve.cluster.workspace import Workspace
from ascend_serve.errors import ClusterError
from ascend_serve.node.environment import VISIBLE_DEVICES
from ascend_serve.node.user_files import LONGEST_PLACE, temporary_places

_CPUS_BESIDE_RANKS = 2
"""Ray counts a CPU for the replica and one for each engine of a data-parallel group, however few cores there are."""

_OBJECT_STORE_BYTES = 256 * 2**20
"""Requests and answers pass through it, weights and activations do not; Ray's default is 30% of the memory."""

_MINIMAL = {
    "RAY_prestart_worker_first_driver": "0",  # Idle workers would import Ray while the replica wants the cores.
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's workers give way to all else on the node unless told otherwise (15), and a rank that waits makes all wait.
    "RAY_worker_niceness": "0",
    # Serve kills a proxy that needs longer, 5 s unless set, and with it the start; a busy machine takes that long. Its
    # own wait for proxies ends after 60 s (HTTP_PROXY_TIMEOUT of Serve 2.60).
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
}

LOOPBACK = "127.0.0.1"
"""Where a cluster with emulated NPUs is, and nobody on another machine reaches it."""

_LOOPBACK_ONLY = {ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0", "VLLM_HOST_IP": LOOPBACK}

_HIDING = (VISIBLE_DEVICES,)
"""Variables that would have Ray offer fewer NPUs; on emulated ones they mean other devices."""


@contextlib.contextmanager
def local_cluster(
    npus: int,
    *,
    env: Mapping[str, str],
    verbose: bool = False,
    dashboard: bool = False,
    on_loss: OnLoss | None = None,
) -> Iterator[Cluster]:
    """Start a Ray cluster on this machine and stop it at the end.

    Its logs are removed when the block ends well, and kept when it raises an error that is not an interruption
    and comes before a signal that asks this process to end.

    Args:
        npus: Emulated NPUs to offer; 0 lets Ray find the real ones.
        env: Variables for all processes of the cluster.
        verbose: Whether logs of all processes are shown here.
        dashboard: Whether to start Ray's dashboard.
        on_loss: What to do when the cluster is lost meanwhile; its processes have been ended then, and its logs kept.

    Raises:
        ClusterError: Ray did not start.
    """
    workspace = _workspace()
    try:
        with _environment({**_MINIMAL, **env}):
            cluster = _start(workspace, npus, verbose=verbose, dashboard=dashboard)
            with watched(own_loss(vital_processes(), cluster.log_directory), _ending(workspace, on_loss)):
                yield cluster
    except Exception:
        _stop(workspace, keep_logs=not is_end_asked())
        raise
    except BaseException:
        _stop(workspace)
        raise
    _stop(workspace)


def _workspace() -> Workspace:
    try:
        return Workspace.make(temporary_places())
    except OSError as error:
        raise ClusterError(
            f"There is no place for the files of a local Ray cluster: {error}",
            f"Set TMPDIR to a folder that can be written, of at most {LONGEST_PLACE} characters and without spaces.",
        ) from error


def _start(workspace: Workspace, npus: int, *, verbose: bool, dashboard: bool) -> Cluster:
    folder = workspace.ray_folder
    place = _on_loopback() if npus else contextlib.nullcontext()
    try:
        # Not longer than that: what the user starts from this process is none of the cluster's.
        with own_signals(), files_for_this_user(), _environment(workspace.environment), place:
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
                _temp_dir=str(workspace.ray_folder),
            )
    except Exception as error:
        raise ClusterError(
            f"A local Ray cluster did not start: {error}", f"Its logs are in {folder}/session_latest/logs."
        ) from error
    url = f"http://{context.dashboard_url}" if context.dashboard_url else None
    return replace(current_cluster(), local=True, dashboard=url)


def _ending(workspace: Workspace, on_loss: OnLoss | None) -> OnLoss | None:
    """End the processes of the cluster, too: whoever waits for Ray waits for ever, so that nothing here may ask it."""
    if on_loss is None:
        return None

    def lost(error: ClusterError) -> None:
        workspace.end(keep_logs=True)
        on_loss(error)

    return lost


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Have all that is started in the block listen on the loopback interface; real NPUs may need another, for HCCL."""
    with _environment(_LOOPBACK_ONLY, without=_HIDING), on_loopback():
        yield


def _stop(workspace: Workspace, *, keep_logs: bool = False) -> None:
    with shielded_from_signals():
        try:
            ray.shutdown()
        finally:
            workspace.end(keep_logs=keep_logs)


@contextlib.contextmanager
def _environment(env: Mapping[str, str], *, without: Sequence[str] = ()) -> Iterator[None]:
    """Set and unset variables for as long as the block runs: Ray's processes inherit this process's environment."""
    names = {*env, *without}
    previous = {name: value for name, value in os.environ.items() if name in names}
    try:
        os.environ.update(env)
        for name in without:
            os.environ.pop(name, None)
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(previous)
