"""What must be equal on all ranks of a capture group, by name."""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import vllm
from vllm.platforms import current_platform

from ascend_serve.engine.group_settings import GroupSettings
from ascend_serve.engine.runtimes.loading import Offers
from ascend_serve.graph.plan import GraphRequest

if TYPE_CHECKING:
    from vllm.config import VllmConfig

PACKAGES = ("torch", "torch_npu", "vllm_ascend")


def fingerprint(vllm_config: VllmConfig) -> dict[str, str]:
    """Describe model, numbers and software of this rank, for comparison with the other ranks."""
    model = vllm_config.model_config
    return {
        "model files": model_digest(Path(model.model)),
        "dtype": str(model.dtype),
        "quantization": str(model.quantization),
        "max_model_len": str(model.max_model_len),
        "max_num_seqs": str(vllm_config.scheduler_config.max_num_seqs),
        "block_size": str(vllm_config.cache_config.block_size),
        "vllm": vllm.__version__,
        **{package: _version(package) for package in PACKAGES},
    }


def plan_fingerprint(
    vllm_config: VllmConfig, settings: GroupSettings, request: GraphRequest, offers: Offers
) -> dict[str, str]:
    """Describe all that a remembered plan depends on: what ranks share, layout, hardware and what was asked for."""
    parallel = vllm_config.parallel_config
    return {
        **fingerprint(vllm_config),
        "tensor_parallel_size": str(parallel.tensor_parallel_size),
        "pipeline_parallel_size": str(parallel.pipeline_parallel_size),
        "data_parallel_size": str(settings.data_parallel_size),
        "platform": current_platform.device_name,
        "cann": os.environ.get("ASCEND_TOOLKIT_HOME", ""),
        "hardware": repr(sorted(settings.hardware.items())),
        "emulated": repr(sorted(settings.emulated.items())),
        "request": repr(request),
        "runtimes": repr(offers),
    }


def model_digest(folder: Path) -> str:
    """Digest names and sizes of a model's files and the contents of its JSON files; weights are not read."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else ():
        digest.update(f"{file.name}:{file.stat().st_size}\n".encode())
        if file.suffix == ".json":
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
