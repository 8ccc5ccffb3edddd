"""What is installed for a row of the release matrix, and where each package comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from ascend_serve.releases import Release

X86_64 = "x86_64"

_LOCKS = Path(__file__).resolve().parents[1] / "requirements"

BUILD_TOOLS = (
    "cmake>=3.26.1",
    "grpcio-tools",
    "jinja2",
    "nanobind==2.9.2",
    "ninja",
    "packaging>=24.2",
    "pybind11",
    "setuptools>=77.0.3,<81.0.0",
    "setuptools-rust>=1.9.0",
    "setuptools-scm>=8.0",
    "wheel",
)
"""What vLLM, vllm-ascend and arctic-inference 0.1.1 are built with (``build-system.requires`` of each, without torch).

They are in the lock: built by themselves, vLLM would bring another torch than the release's, arctic-inference a third.
"""

SOURCE_ONLY = ("arctic-inference",)
"""Packages of the lock without wheels."""

OVERRIDES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "fastapi": (
            "fastapi[standard]>=0.133,<0.137",
            "vllm-ascend asks for less than 0.124, while Ray Serve 2.60 and vLLM 0.30 ask for 0.133 or later; vLLM's "
            "own server is tested here with 0.136",
        ),
    }
)
"""What is wanted of a package where those that ask for it cannot agree, and why."""


def lock_of(row: Release) -> Path:
    """The pinned packages of a row, all from the Python Package Index, the same for all processors and Pythons."""
    return _LOCKS / f"npu-{row.vllm}.lock"


def locked(row: Release) -> dict[str, str]:
    """Version by name of the packages in the lock."""
    lines = lock_of(row).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==", 1) for line in lines)


def torch_pins(row: Release, processor: str) -> dict[str, str]:
    """torch and its companions. For x86-64 torch_npu is made for torch's CPU builds, which PyTorch's own index has."""
    local = "+cpu" if processor == X86_64 else ""
    return {
        "torch": row.torch + local,
        "torchvision": row.torchvision + local,
        "torchaudio": row.torchaudio + local,
        "torch-npu": row.torch_npu,
    }
