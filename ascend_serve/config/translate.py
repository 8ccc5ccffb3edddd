"""Translation of a configuration to the keyword arguments of vLLM's ``AsyncEngineArgs`` (0.23.0 and 0.32.0)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ascend_serve.config.combinations import check, effective_npugraph_ex, mode_under_xlite
from ascend_serve.config.passthrough import merge
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.graph.modes import GraphMode, RuntimeName

EXECUTOR = "ascend_serve.engine.executor.LockstepRayExecutor"
WORKER_EXTENSION = "ascend_serve.engine.worker_extension.CaptureWorkerExtension"


def engine_args(
    config: AscendServeConfig,
    *,
    runtime: RuntimeName | None = None,
    mode: GraphMode | None = None,
    capture_sizes: Sequence[int] | None = None,
    weights: Mapping[int, float] | None = None,
    plan_directory: str | None = None,
) -> dict[str, Any]:
    """Translate ``config``; what a planner decided comes in as arguments and wins over the section ``graph``.

    Args:
        config: The configuration.
        runtime: The graph runtime to start with.
        mode: The graph mode to start with.
        capture_sizes: Sizes to capture, in tokens; vLLM chooses where neither these nor the configuration's are set.
        weights: Share of decode steps per batch size in tokens, where known.
        plan_directory: Folder in which plans that worked are kept.

    Returns:
        Keyword arguments of plain JSON types, with the ``vllm:`` section on top: mappings on both sides are merged.

    Raises:
        ConfigError: The combination cannot work, or ``vllm:`` holds a key that another section decides.
    """
    check(config)
    runtime = runtime or config.graph.runtime
    # vllm-ascend refuses Xlite with pipelines. The ranks are asked for it all the same, and say why they go without.
    xlite = runtime is RuntimeName.XLITE and config.parallel.pipeline_parallel_size == 1
    mode = (
        GraphMode.NONE
        if runtime is RuntimeName.EAGER
        else mode or (mode_under_xlite(config) if xlite else config.graph.mode)
    )
    sizes = capture_sizes if capture_sizes is not None else config.graph.capture_sizes
    ours = {
        **_model(config),
        **_parallel(config),
        "enforce_eager": mode is GraphMode.NONE,
        "compilation_config": _compilation(mode, sizes),
        "additional_config": {
            "ascend_compilation_config": _ascend_compilation(config, mode),
            "xlite_graph_config": {"enabled": xlite, "full_mode": xlite and config.graph.xlite.full_mode},
            "ascend_serve": _settings(config, runtime, mode, weights, plan_directory)
            | _fallback(xlite, sizes or config.graph.capture_sizes),
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


def _compilation(mode: GraphMode, sizes: Sequence[int] | None) -> dict[str, Any]:
    """Sizes go with their maximum: vLLM derives it otherwise, and refuses one that does not fit the sizes."""
    captured = {"cudagraph_capture_sizes": sorted(sizes), "max_cudagraph_capture_size": max(sizes)} if sizes else {}
    return {"cudagraph_mode": mode.value, **(captured if mode is not GraphMode.NONE else {})}


def _ascend_compilation(config: AscendServeConfig, mode: GraphMode) -> dict[str, bool]:
    enabled = effective_npugraph_ex(config, mode)
    return {
        "enable_npugraph_ex": enabled,
        "enable_static_kernel": enabled and config.graph.npugraph_ex.static_kernel,
    }


def _fallback(xlite: bool, sizes: Sequence[int] | None) -> dict[str, list[int]]:
    """What Xlite has no use for and ACLGraph would need."""
    return {"capture_sizes": list(sizes)} if xlite and sizes else {}


def _settings(
    config: AscendServeConfig,
    runtime: RuntimeName,
    mode: GraphMode,
    weights: Mapping[int, float] | None,
    plan_directory: str | None,
) -> dict[str, Any]:
    """What our executor and workers read (``engine/group_settings.py``) and the emulated NPU, as plain JSON types."""
    graph = config.graph
    settings: dict[str, Any] = {
        "data_parallel_size": config.parallel.data_parallel_size,
        "runtime": runtime.value,
        "mode": graph.mode.value,
        "on_failure": graph.on_failure.value,
        "static_kernel": effective_npugraph_ex(config, mode) and graph.npugraph_ex.static_kernel,
        "deadlines": graph.deadlines.model_dump(exclude_none=True),
        "weights": {str(size): share for size, share in (weights or {}).items()},
        "plan_directory": plan_directory,
        "hardware": config.hardware.model_dump(mode="json", exclude_none=True),
        "emulated": config.emulated.model_dump(mode="json") if config.emulated.npus else None,
        "built_in_model": config.model.is_built_in or None,
    }
    return {key: value for key, value in settings.items() if value is not None}
