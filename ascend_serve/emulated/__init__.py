"""An NPU made of a CPU: a vLLM platform, recorded graphs, a stream pool and scripted faults.

This module is imported by every vLLM process through the ``vllm.platform_plugins`` entry point, so it imports nothing.
"""

from __future__ import annotations

import os

ENABLE_ENV_VAR = "ASCEND_SERVE_EMULATED_NPU"
"""Set to ``1`` to run on emulated NPUs. Every process of the deployment needs it before it imports vLLM."""


def platform_plugin() -> str | None:
    """Answer vLLM's question for a platform: the emulated NPU where it is asked for, else nothing."""
    if os.environ.get(ENABLE_ENV_VAR) != "1":
        return None
    return "ascend_serve.emulated.platform.EmulatedNPUPlatform"
