"""All that an engine core imports, for the process that engine cores are forked from."""

from __future__ import annotations

from ascend_serve.node.imports import uncollected

with uncollected():
    import vllm.v1.engine.core
    import vllm.v1.executor.ray_executor_v2

    import ascend_serve.engine.executor

__all__ = ["ascend_serve", "vllm"]
