"""Interfaces that are elsewhere from one release to the next. Our code takes each at any of its places.

A release has to have each of them at one place, whole. What our code goes without where it is not there is ``{}``.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.contract.interfaces import Table

Places = tuple[Table, ...]

_ARGUMENTS = (
    "BaseFrontendArgs.tool_parser_plugin",
    "make_arg_parser(parser)",
    "validate_parsed_serve_args(args)",
)
_AUTHENTICATION = (
    "AuthenticationMiddleware(app, tokens)",
    "AuthenticationMiddleware.verify_token(self, headers)",
)
_BUILD = "build_app(args, supported_tasks, model_config)"
_STATE = "init_app_state(engine_client, state, args, supported_tasks)"
_CHECK = "validate_api_server_args(args)"

VLLM_MOVED: Mapping[str, Places] = {
    "arguments of the server": (
        {"vllm.entrypoints.openai.cli_args": _ARGUMENTS},
        {"vllm.entrypoints.launchers.cli_args": _ARGUMENTS},
        {"vllm.entrypoints.common.cli_args": _ARGUMENTS},
    ),
    "check of the arguments": (
        {"vllm.entrypoints.openai.api_server": (_CHECK,)},
        {"vllm.entrypoints.launchers.launcher": (_CHECK,)},
        {"vllm.entrypoints.common.cli_args": (_CHECK,)},
    ),
    "application": (
        {"vllm.entrypoints.openai.api_server": (_BUILD, _STATE)},
        {
            "vllm.entrypoints.launchers.app": (_BUILD,),
            "vllm.entrypoints.launchers.api_server.app_state": (_STATE,),
        },
    ),
    "authentication": (
        {"vllm.entrypoints.serve.utils.server_utils": _AUTHENTICATION},
        {"vllm.entrypoints.serve.middleware.authenticate": _AUTHENTICATION},
    ),
    "warm-up": (
        {"vllm.v1.executor.abstract": ("Executor.compile_or_warm_up_model(self)",)},
        {},
    ),
    "start of a worker": (
        {"vllm.v1.executor.ray_executor_v2": ("RayWorkerProc.initialize_worker(self, local_rank, env_vars)",)},
        {
            "vllm.v1.executor.ray_executor_v2": (
                "RayWorkerProc.create_dist_init_method(self)",
                "RayWorkerProc.initialize_worker("
                "self, local_rank, env_vars, distributed_init_method, assigned_physical_gpu_ids)",
            )
        },
    ),
    "devices of a worker": (
        {"vllm.v1.executor.ray_executor_v2": ("RayWorkerProc.get_node_and_gpu_ids(self)",)},
        {"vllm.v1.executor.ray_executor_v2": ("RayWorkerProc.get_node_and_physical_gpu_ids(self)",)},
    ),
    "Ray cluster": (
        {"vllm.v1.executor.ray_utils": ("initialize_ray_cluster(parallel_config, require_gpu_on_driver)",)},
        {"vllm.v1.executor.ray_utils": ("initialize_ray_cluster(parallel_config)",)},
    ),
}
"""Places of vLLM 0.23.0 and 0.26.0, of 0.30.0 and 0.32.0, and of 0.33.0, in this order."""

VLLM_ASCEND_MOVED: Mapping[str, Places] = {
    "compiler options": (
        {
            "vllm_ascend.ascend_config": (
                "AscendCompilationConfig.__init__(self, enable_npugraph_ex, enable_static_kernel)",
                "text:ascend_compilation_config",
            )
        },
        {
            "vllm_ascend.ascend_config": (
                "AscendCompilationConfig.enable_npugraph_ex",
                "AscendCompilationConfig.enable_static_kernel",
                "AscendConfig.ascend_compilation_config",
            )
        },
    ),
    "Xlite's options": (
        {"vllm_ascend.ascend_config": ("text:enabled", "text:full_mode", "text:xlite_graph_config")},
        {"vllm_ascend.ascend_config": ("AscendConfig.xlite_graph_config",)},
    ),
    "Xlite's wrapper": (
        {
            "vllm_ascend.xlite.xlite": ("XliteWrapper.runnable", "XliteWrapper.unwrap(self)"),
            "vllm_ascend.xlite.xlite_model_runner": ("XliteModelRunner.xlite_model",),
        },
        {"vllm_ascend.xlite.xlite_model_runner": ("XliteModelRunner.fallback_model", "XliteModelRunner.runner_model")},
    ),
    "worker": (
        {"vllm_ascend.platform": ("text:vllm_ascend.worker.worker.NPUWorker",)},
        {"vllm_ascend.device.hardware_profile": ("text:vllm_ascend.worker.worker.NPUWorker",)},
    ),
}
"""Places of vllm-ascend 0.23.0 and 0.26.0rc1, and of 0.30.0rc2, in this order."""


def tables(moved: Mapping[str, Places]) -> list[Table]:
    """All places as tables."""
    return [place for places in moved.values() for place in places]
