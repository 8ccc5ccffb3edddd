"""ascend_serve: large language models on Ray clusters of Ascend NPUs, with graph mode that holds on every rank."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ascend_serve.config import AscendServeConfig, load
    from ascend_serve.errors import RequestError
    from ascend_serve.offline.data import DataEngine
    from ascend_serve.offline.generation import Engine
    from ascend_serve.serving.builder import build_app, build_deployment

__all__ = [
    "AscendServeConfig",
    "DataEngine",
    "Engine",
    "RequestError",
    "__version__",
    "build_app",
    "build_deployment",
    "load",
]

__version__ = "0.2.0.dev0"

_HOMES = {
    "AscendServeConfig": "ascend_serve.config",
    "DataEngine": "ascend_serve.offline.data",
    "Engine": "ascend_serve.offline.generation",
    "RequestError": "ascend_serve.errors",
    "build_app": "ascend_serve.serving.builder",
    "build_deployment": "ascend_serve.serving.builder",
    "load": "ascend_serve.config",
}
"""Where each public name is. It is imported when it is asked for: most of the package needs no Ray."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
