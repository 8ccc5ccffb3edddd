"""ascend_serve: large language models on Ray clusters of Ascend NPUs, with graph mode that holds on every rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ascend_serve.serving.offline import Engine

__all__ = ["Engine", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `Engine` when it is asked for: it needs Ray, and most of the package does not."""
    if name == "Engine":
        from ascend_serve.serving.offline import Engine

        return Engine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
