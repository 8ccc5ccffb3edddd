"""Releases of vllm-ascend, each with the vLLM that it is made for, as Python sources, where only their tests look.

    python -m tests.npu.vendor

downloads the source distributions with pip and unpacks those of each release into a folder of its own in ``SOURCES``;
``IMPORTED`` gets the packages that they import and the project does not have.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from ascend_serve.releases import Release
from tests.npu.vllm_ascend import IMPORTED, RELEASES, SOURCES

PACKAGES = ("gguf==0.17.1", "scipy==1.17.1", "torchvision==0.28.0")
"""Torchvision is the one for torch 2.13.0."""

BACKEND = Path(__file__).with_name("metadata_only")
"""Asked for metadata, what vllm-ascend and vLLM are built with would compile."""

BUILD_INFO = "__device_type__ = 'A2'\n"
"""What building vllm-ascend writes for the processor that the simulated device takes itself for, an Ascend 910B."""


def pip(*words: str, **environment: str) -> None:
    """Run pip without resolving dependencies."""
    command = [sys.executable, "-m", "pip", words[0], "-qq", "--disable-pip-version-check", "--no-deps", *words[1:]]
    subprocess.run(command, check=True, env=os.environ | environment)


def unpack(package: str, version: str, folder: Path, *wanted: str) -> None:
    """Download a source distribution, and unpack those of its folders that are wanted."""
    with tempfile.TemporaryDirectory() as scratch:
        only = ("--no-binary", package, "--no-build-isolation", "--ignore-requires-python")
        pip("download", "--dest", scratch, *only, f"{package}=={version}", PYTHONPATH=str(BACKEND))
        with tarfile.open(next(Path(scratch).glob("*.tar.gz"))) as archive:
            for member in archive.getmembers():
                member.name = member.name.partition("/")[2]
                if member.name.startswith(tuple(f"{name}/" for name in wanted)):
                    archive.extract(member, folder, filter="data")


def fetch(release: Release, folder: Path) -> None:
    """Fill ``folder``, to be put on the path of a process."""
    unpack("vllm-ascend", release.vllm_ascend, folder, "vllm_ascend", "vllm_ascend.egg-info")
    (folder / "vllm_ascend/_build_info.py").write_text(BUILD_INFO, encoding="utf-8")
    unpack("vllm", release.vllm, folder, "vllm")


def main() -> None:
    """Fetch all that the tests ask for."""
    pip("install", "--target", str(IMPORTED), *PACKAGES)
    for release in RELEASES:
        fetch(release, SOURCES / release.vllm_ascend)


if __name__ == "__main__":
    main()
