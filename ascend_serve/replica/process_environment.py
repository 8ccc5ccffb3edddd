"""The environment of the processes that run vLLM; none of it is the user's business."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import ray

from ascend_serve.api.api_keys import VARIABLE
from ascend_serve.cluster.janitor import MEMBER
from ascend_serve.cluster.token import AUTH_MODE
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.graph.stream_costs import EXPANSION_MODE
from ascend_serve.node.own_folder import use_own_folder
from ascend_serve.replica.log_handlers import keep_handlers

EMULATED_NPU = "ASCEND_SERVE_EMULATED_NPU"
"""Chooses our emulated platform; vLLM reads it when it is imported."""

_SERVES_THREAD = "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD"
"""Serve's own switch (2.60.0). In a thread of its own an application hands each token to Serve's event loop, which
costs a switch of threads, and the lock of Python's interpreter, for each."""

_ARENAS = "MALLOC_ARENA_MAX"
"""Of glibc, which gives new threads arenas of their own, eight for each core. Ray exports metrics from a new thread
every ten seconds, and what each arena got for that stays there: 2.4 MiB."""

_ROOT_LEVEL = "SAGEMAKER_CONTAINER_LOG_LEVEL"
"""Of ``model_hosting_container_standards`` (0.1), which vLLM's application imports (0.32.0): the level to which it sets
the root logger of whoever imports it. Its default, ERROR, keeps a replica's warnings out of its log."""

MAX_ANSWERS = 128
"""Largest ``n`` of a request, as in OpenAI's API."""


def engine_environment(config: AscendServeConfig) -> dict[str, str]:
    """Variables that must be set before vLLM is imported, in every process that imports it.

    They go into Ray's runtime environment, so they hold on other nodes too.
    """
    env = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if config.emulated.npus:
        env[EMULATED_NPU] = "1"
    if expansion_mode := config.hardware.hccl_op_expansion_mode:
        env[EXPANSION_MODE] = expansion_mode.value
    # The engine core is a client of the cluster on its own and needs to know how to get in.
    if mode := os.environ.get(AUTH_MODE):
        env[AUTH_MODE] = mode
    return env


def replica_runtime_env(config: AscendServeConfig, job: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The runtime environment of a replica: that of the job that deploys it, and `engine_environment` on top.

    Serve itself passes on a job's working directory, but neither its variables nor its packages. A replica answers on
    Serve's own event loop, unless this environment or the job says otherwise.

    Args:
        config: What to serve.
        job: The job's, where this process is not connected to Ray yet.
    """
    job = dict(ray.get_runtime_context().runtime_env) if ray.is_initialized() else job or {}
    defaults = {_SERVES_THREAD: "0", _ARENAS: "2", _ROOT_LEVEL: "WARNING"}
    chosen = {name: os.environ.get(name, value) for name, value in defaults.items()}
    return {**job, "env_vars": {**chosen, **job.get("env_vars", {}), **engine_environment(config)}}


def prepare_engine_process() -> None:
    """Set what an engine inherits from the process that starts it, on the node where it starts.

    The engine core is a process of its own that connects to Ray by itself: without an address it would start a cluster
    of its own. API keys are checked before vLLM's application, so its own check gets none, and neither do the engine
    core and the workers. vLLM would take 16384 answers of one request, and close Ray Serve's log handlers. On a
    cluster that others have started nobody clears away what a process leaves in the folder for temporary files.
    """
    keep_handlers()
    if MEMBER not in os.environ:
        use_own_folder()
    os.environ.pop(VARIABLE, None)
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    os.environ.setdefault("VLLM_MAX_N_SEQUENCES", str(MAX_ANSWERS))
