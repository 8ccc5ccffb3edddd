"""The ``vllm:`` section: any argument of ``vllm serve``, except those that our own sections decide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ascend_serve.config.schema import GraphConfig
from ascend_serve.errors import Problem
from ascend_serve.graph.runtimes import RUNTIMES

_SIZES = "graph.capture_sizes decides it."
_RAY = "Leave it out: ranks are always Ray actors."
_NODES = "Leave it out: Ray places the ranks on the nodes of its cluster, and tells them of each other."
_HTTP = "Leave it out: Ray Serve answers HTTP; serving.host, serving.port and serving.http_options say where and how."
_DRAFTS = "Set the same below vllm.speculative_config: sizes are planned by it."
_THEIRS = "Leave it out: vLLM's own processes tell each other."
_LOGS = "Leave it out: these logs are Ray Serve's (serving.deployment.logging_config)."


def _options_of_runtimes() -> Iterator[tuple[str, str]]:
    """Keys that load a model for a runtime, and what to set instead."""
    options = GraphConfig().runtime_options
    for name, traits in RUNTIMES.items():
        if traits.loaded_by:
            section = f"additional_config.{traits.loaded_by}"
            yield f"{section}.enabled", f"Set graph.runtime={name}."
            yield from ((f"{section}.{key}", f"Set graph.{name}.{key}.") for key in options.get(name, ()))


DECIDED_ELSEWHERE: Mapping[str, str] = {
    "model": "Set model.path.",
    "served_model_name": "Set model.served_name.",
    "trust_remote_code": "Set model.trust_remote_code.",
    "tensor_parallel_size": "Set parallel.tensor_parallel_size.",
    "pipeline_parallel_size": "Set parallel.pipeline_parallel_size.",
    "data_parallel_size": "Set parallel.data_parallel_size.",
    "enable_expert_parallel": "Set parallel.enable_expert_parallel.",
    "data_parallel_backend": _RAY,
    "distributed_executor_backend": _RAY,
    "worker_extension_cls": "Leave it out: the capture session lives there.",
    "enforce_eager": "Set graph.runtime=eager.",
    "cudagraph_capture_sizes": _SIZES,
    "max_cudagraph_capture_size": _SIZES,
    "compilation_config.cudagraph_mode": "Set graph.mode.",
    "compilation_config.cudagraph_capture_sizes": _SIZES,
    "compilation_config.max_cudagraph_capture_size": _SIZES,
    "additional_config.ascend_compilation_config.enable_npugraph_ex": "Set graph.npugraph_ex.enabled.",
    "additional_config.ascend_compilation_config.enable_static_kernel": "Set graph.npugraph_ex.static_kernel.",
    **dict(_options_of_runtimes()),
    "additional_config.ascend_serve": "Leave it out: the sections graph and emulated are carried there.",
    "model_tag": "Set model.path.",
    "host": "Set serving.host.",
    "port": "Set serving.port.",
    "root_path": "Set serving.route_prefix, where the model's URLs begin.",
    "uds": _HTTP,
    "ssl_keyfile": "Set serving.http_options.ssl_keyfile.",
    "ssl_certfile": "Set serving.http_options.ssl_certfile.",
    "ssl_ca_certs": "Leave it out: Ray Serve asks no client for a certificate.",
    "ssl_cert_reqs": "Leave it out: Ray Serve asks no client for a certificate.",
    "ssl_ciphers": "Leave it out: Ray Serve chooses them.",
    "enable_ssl_refresh": "Leave it out: start anew with the new certificate.",
    "uvicorn_log_level": _LOGS,
    "disable_uvicorn_access_log": _LOGS,
    "disable_access_log_for_endpoints": _LOGS,
    "log_config_file": _LOGS,
    "h11_max_incomplete_event_size": "Set serving.max_body_bytes.",
    "h11_max_header_count": _HTTP,
    "grpc": _HTTP,
    "grpc_port": _HTTP,
    "headless": _NODES,
    "api_server_count": "Set serving.deployment.num_replicas: each replica has an API server of its own.",
    "config": "Merge files on the command line: `ascend-serve serve FIRST +SECOND`.",
    "data_parallel_rank": _NODES,
    "data_parallel_start_rank": _NODES,
    "data_parallel_size_local": _NODES,
    "data_parallel_address": _NODES,
    "data_parallel_rpc_port": _NODES,
    "data_parallel_external_lb": _NODES,
    "data_parallel_hybrid_lb": _NODES,
    "data_parallel_multi_port_external_lb": _NODES,
    "data_parallel_supervisor_port": _NODES,
    "dp_supervisor_probe_interval_s": _NODES,
    "dp_supervisor_probe_timeout_s": _NODES,
    "dp_supervisor_probe_failure_threshold": _NODES,
    "nnodes": _NODES,
    "node_rank": _NODES,
    "master_addr": _NODES,
    "master_port": _NODES,
    "device_ids": "Leave it out: Ray tells each rank its NPU.",
    "spec_method": _DRAFTS,
    "spec_model": _DRAFTS,
    "spec_tokens": _DRAFTS,
    "mamba_config": "Set vllm.mamba_backend, and what else begins with mamba.",
    "logging_config": _LOGS,
    "enable_elastic_ep": "Leave it out: parallel.data_parallel_size holds as long as it serves.",
    "enable_fault_tolerance": "Leave it out: a replica replaces an engine that is lost (serving.recovery).",
    "_api_process_count": _THEIRS,
    "_api_process_rank": _THEIRS,
    "api_key": "Leave it out: a configuration is printed; set serving.api_key_file or the variable VLLM_API_KEY.",
    "hf_token": "Leave it out: a configuration is printed; set the variable HF_TOKEN.",
}
"""Keys below ``vllm`` that our own sections decide, and what to do instead."""

MAPPINGS = ("compilation_config", "additional_config")
"""Arguments that our own sections write into, so that they have to be mappings."""


def collisions(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """Keys of the ``vllm:`` section that contradict our own sections, each with what to set instead."""
    for name in MAPPINGS:
        if name in arguments and not isinstance(arguments[name], Mapping):
            yield f"vllm.{name}: {arguments[name]!r} is not a mapping", f"Write the options of {name} as keys below it."
    for key, remedy in DECIDED_ELSEWHERE.items():
        if _contains(arguments, key.split(".")):
            yield f"vllm.{key}: decided by another section", remedy


def merge(ours: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Lay ``arguments`` over ``ours``; mappings on both sides are merged key by key."""
    merged = dict(ours)
    for key, value in arguments.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def _contains(arguments: Any, path: list[str]) -> bool:
    for part in path:
        if not isinstance(arguments, Mapping) or part not in arguments:
            return False
        arguments = arguments[part]
    return True
