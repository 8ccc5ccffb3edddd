"""From the model runner that a worker has made to its seam, by the class that it comes from.

vLLM has two, and releases of vllm-ascend derive theirs from them (0.23.0 to 0.30.0rc2). One that comes from neither,
such as vLLM's ``MMEncoderModelRunner``, would capture past the session, each rank for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ascend_serve.engine.expected import expected, installed
from ascend_serve.engine.npu import is_emulated
from ascend_serve.engine.runner import RunnerSeam
from ascend_serve.engine.runner_v1 import FirstRunnerSeam
from ascend_serve.engine.runner_v2 import SecondRunnerSeam
from ascend_serve.errors import EngineError
from ascend_serve.releases import DEFAULT, ModelRunner, installed_version, nearest

if TYPE_CHECKING:
    from vllm.config import VllmConfig

SEAMS: Mapping[str, type[RunnerSeam]] = MappingProxyType(
    {
        "vllm.v1.worker.gpu_model_runner.GPUModelRunner": FirstRunnerSeam,
        "vllm.v1.worker.gpu.model_runner.GPUModelRunner": SecondRunnerSeam,
    }
)
"""By the class that a model runner comes from."""


def seam_of(runner: Any) -> RunnerSeam:
    """The seam of a worker's model runner.

    Raises:
        EngineError: It comes from none that is known.
    """
    names = [f"{base.__module__}.{base.__qualname__}" for base in type(runner).__mro__]
    for name in names:
        if name in SEAMS:
            return SEAMS[name](runner)
    raise EngineError(
        f"{installed()}: the workers run {names[0]}, a model runner whose graphs nobody here knows",
        f"Known are {' and '.join(SEAMS)}. Set VLLM_USE_V2_MODEL_RUNNER to 0 or 1 where the cluster is started, "
        "or leave out what asks for another.",
    )


def check_model_runner(vllm_config: VllmConfig) -> None:
    """Make sure that the release has the model runner that the engine will run.

    Raises:
        EngineError: It has not.
        VendorInterfaceError: vLLM does not say which.
    """
    release = DEFAULT if is_emulated() else nearest(installed_version())
    if expected(vllm_config, "use_v2_model_runner") and not is_emulated() and ModelRunner.V2 not in release.runners:
        raise EngineError(
            f"{installed()} would run Model Runner V2, which vllm-ascend {release.vllm_ascend} does not have",
            "Set VLLM_USE_V2_MODEL_RUNNER=0 where the cluster is started, or unset it: vllm-ascend runs the first.",
        )
