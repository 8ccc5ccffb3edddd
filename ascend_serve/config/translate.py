"""Translation of a configuration to the keyword arguments of vLLM's ``AsyncEngineArgs`` (0.23.0 and 0.32.0)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from ascend_serve.config.combinations import check
from ascend_serve.config.passthrough import merge
from ascend_serve.config.schema import AscendServeConfig, GraphConfig
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import GraphRequest
from ascend_serve.graph.runtimes import RUNTIMES

_REQUEST = TypeAdapter(GraphRequest)

SECTION = "ascend_serve"
"""The part of vLLM's ``additional_config`` that is ours."""

EXECUTOR = "ascend_serve.engine.executor.LockstepRayExecutor"
WORKER_EXTENSION = "ascend_serve.engine.worker_extension.CaptureWorkerExtension"


def engine_args(
    config: AscendServeConfig, request: GraphRequest, *, mode: GraphMode, npugraph_ex: bool, static_kernel: bool
) -> dict[str, Any]:
    """Translate ``config`` and what planning decided; who wants to start an engine takes those of a plan.

    Args:
        config: The configuration.
        request: What the capture group is asked for.
        mode: The graph mode to start with; with a runtime that has modes of its own not the request's.
        npugraph_ex: Whether npugraph_ex optimises the FX graph.
        static_kernel: Whether it compiles kernels for fixed shapes.

    Returns:
        Keyword arguments of plain JSON types, with the ``vllm:`` section on top: mappings on both sides are merged.

    Raises:
        ConfigError: The combination cannot work, or ``vllm:`` holds a key that another section decides.
    """
    check(config)
    ours = {
        **_model(config),
        **_parallel(config),
        "enforce_eager": mode is GraphMode.NONE,
        "compilation_config": _compilation(mode, request.capture_sizes),
        "additional_config": {
            "ascend_compilation_config": {"enable_npugraph_ex": npugraph_ex, "enable_static_kernel": static_kernel},
            **_loaded_runtimes(config, request.runtime),
            SECTION: _settings(config, request, static_kernel),
        },
    }
    return merge(ours, config.vllm)


def _model(config: AscendServeConfig) -> dict[str, Any]:
    return {
        "model": config.model.path,
        "served_model_name": config.model.name,
        "trust_remote_code": config.model.trust_remote_code,
    }


def _parallel(config: AscendServeConfig) -> dict[str, Any]:
    parallel = config.parallel
    backend = {"data_parallel_backend": "ray"} if parallel.data_parallel_size > 1 else {}
    return {
        "tensor_parallel_size": parallel.tensor_parallel_size,
        "pipeline_parallel_size": parallel.pipeline_parallel_size,
        "data_parallel_size": parallel.data_parallel_size,
        "enable_expert_parallel": parallel.enable_expert_parallel,
        "distributed_executor_backend": EXECUTOR,
        "worker_extension_cls": WORKER_EXTENSION,
        **backend,
    }


def _compilation(mode: GraphMode, sizes: Sequence[int]) -> dict[str, Any]:
    """Sizes go with their maximum: vLLM derives it otherwise, and refuses one that does not fit the sizes."""
    captured = {"cudagraph_capture_sizes": list(sizes), "max_cudagraph_capture_size": max(sizes)} if sizes else {}
    return {"cudagraph_mode": mode.value, **(captured if mode is not GraphMode.NONE else {})}


def _loaded_runtimes(config: AscendServeConfig, wanted: RuntimeName) -> dict[str, Any]:
    """For each runtime that models are loaded for whether they are; the options of the others are the defaults."""
    loaded = {name: traits.loaded_by for name, traits in RUNTIMES.items() if traits.loaded_by}
    graphs = {name: config.graph if name is wanted else GraphConfig() for name in loaded}
    return {
        section: {"enabled": name is wanted, **graphs[name].runtime_options.get(name, {})}
        for name, section in loaded.items()
    }


def _settings(config: AscendServeConfig, request: GraphRequest, static_kernel: bool) -> dict[str, Any]:
    """What our executor and workers read (``engine/group_settings.py``) and the emulated NPU, as plain JSON types."""
    settings: dict[str, Any] = {
        "data_parallel_size": config.parallel.data_parallel_size,
        "request": _REQUEST.dump_python(request, mode="json"),
        "static_kernel": static_kernel,
        "deadlines": config.graph.deadlines.model_dump(exclude_none=True),
        "hardware": config.hardware.model_dump(mode="json", exclude_none=True),
        "emulated": config.emulated.model_dump(mode="json") if config.emulated.npus else None,
        "built_in_model": config.model.is_built_in or None,
    }
    return {key: value for key, value in settings.items() if value is not None}
