"""The ``vllm:`` section: any engine argument of vLLM, except those that our own sections decide."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ascend_serve.config.schema import GraphConfig
from ascend_serve.errors import ConfigError, Problem
from ascend_serve.graph.runtimes import RUNTIMES

_SIZES = "graph.capture_sizes decides it."
_RAY = "Leave it out: ranks are always Ray actors."


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
    "host": "Set serving.host.",
    "port": "Set serving.port.",
    "api_key": "Leave it out: a configuration is printed; set serving.api_key_file or the variable VLLM_API_KEY.",
}
"""Keys below ``vllm`` that our own sections decide, and what to do instead."""

_MAPPINGS = ("compilation_config", "additional_config")
_ENGINE_ARGUMENTS = ("EngineArgs", "AsyncEngineArgs")


def collisions(arguments: Mapping[str, Any]) -> Iterator[Problem]:
    """Keys of the ``vllm:`` section that contradict our own sections, each with what to set instead."""
    for name in _MAPPINGS:
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


def check_argument_names(arguments: Mapping[str, Any]) -> None:
    """Hold the keys of the ``vllm:`` section against the engine arguments of the vLLM that is installed here, if any.

    Raises:
        ConfigError: A key is not an engine argument; with the nearest one that is.
    """
    known = engine_arguments()
    problems = []
    for key in arguments if known else ():
        if key not in known:
            match = difflib.get_close_matches(key, known, n=1)
            remedy = f"Did you mean vllm.{match[0]}?" if match else "`vllm serve --help=all` lists them."
            problems.append((f"vllm.{key}: not an engine argument of the installed vLLM", remedy))
    if problems:
        raise ConfigError.of("vllm", problems)


@cache
def engine_arguments() -> Mapping[str, str]:
    """Fields of ``AsyncEngineArgs`` in the installed vLLM (0.23.0 and 0.32.0) with their types, as it spells them.

    Empty where none is installed. They are read from the source, because importing vLLM takes many seconds.
    """
    package = find_spec("vllm")
    if package is None or package.origin is None:
        return {}
    source = Path(package.origin).parent / "engine" / "arg_utils.py"
    classes = (node for node in ast.parse(source.read_bytes()).body if isinstance(node, ast.ClassDef))
    return dict(field for node in classes if node.name in _ENGINE_ARGUMENTS for field in _fields(node))


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id, ast.unparse(statement.annotation)


def _contains(arguments: Any, path: list[str]) -> bool:
    for part in path:
        if not isinstance(arguments, Mapping) or part not in arguments:
            return False
        arguments = arguments[part]
    return True
