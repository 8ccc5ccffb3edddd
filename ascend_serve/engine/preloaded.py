"""All that an engine core imports, for the process that engine cores are forked from."""

from __future__ import annotations

from ascend_serve.node.imports import import_at_once

import_at_once("vllm.v1.engine.core", "vllm.v1.executor.ray_executor_v2", "ascend_serve.engine.executor")
