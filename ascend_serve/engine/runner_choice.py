"""Which of vLLM's model runners an engine runs. The capture session knows the first; any other is refused in time.

Model Runner V2 (``vllm/v1/worker/gpu/model_runner.py``, and ``vllm_ascend/worker/v2`` on top of it) keeps its graphs in
a manager of its own and has no ``_warmup_and_capture``: it would capture past the session, each rank for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ascend_serve.engine.expected import expected, installed
from ascend_serve.errors import EngineError

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def check_model_runner(vllm_config: VllmConfig) -> None:
    """Make sure that the engine will run a model runner that the session knows (0.23.0 to 0.33.0).

    Raises:
        EngineError: It will run another.
        VendorInterfaceError: vLLM does not say which.
    """
    if expected(vllm_config, "use_v2_model_runner"):
        raise EngineError(
            f"{installed()} would run Model Runner V2, whose graphs are captured without agreement of the ranks",
            "Set VLLM_USE_V2_MODEL_RUNNER=0 where the cluster is started, or unset it: vllm-ascend runs the first.",
        )
