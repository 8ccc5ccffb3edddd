"""vllm-ascend 0.23.0 and the vLLM that it is made for, as Python sources, where only the tests that run them look.

    python -m tests.npu.vendor FOLDER

downloads both with pip and installs the packages that they import and the project does not have. Of vllm-ascend, the
wheel's compiled parts are left out: they are made for another torch. Of vLLM, the source distribution is a seventh of
the wheel; pip asks it for its metadata, which takes the packages of ``BUILD`` but no compiler.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.contract.vendors import VLLM_ASCEND

VLLM = "vllm==0.23.0"
IMPORTED = ["gguf==0.17.1", "scipy==1.17.1", "torchvision==0.28.0"]
"""Torchvision is the one for torch 2.13.0."""
BUILD = ["semantic-version==2.10.0", "setuptools-rust==1.13.0", "setuptools-scm==10.3.4", "vcs-versioning==2.6.0"]


def pip(*words: str, **environment: str) -> None:
    """Run pip without resolving dependencies."""
    command = [sys.executable, "-m", "pip", words[0], "-qq", "--disable-pip-version-check", "--no-deps", *words[1:]]
    subprocess.run(command, check=True, env=os.environ | environment)


def fetch(folder: Path) -> None:
    """Fill ``folder``, to be put on the path of a process."""
    pip("install", "--target", str(folder), *IMPORTED)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        scratch, build = Path(name), Path(name) / "build"
        pip("install", "--target", str(build), *BUILD)
        VLLM_ASCEND.unpack(folder, lambda file: file.endswith(".py") or ".dist-info/" in file)
        pip(
            *("download", "--dest", name, "--no-binary=vllm", "--no-build-isolation", VLLM),
            PYTHONPATH=str(build),
            VLLM_TARGET_DEVICE="empty",
            VLLM_VERSION_OVERRIDE="0.23.0",
        )
        with tarfile.open(next(scratch.glob("*.tar.gz"))) as archive:
            for member in archive.getmembers():
                path = member.name.partition("/")[2]
                if path.startswith("vllm/"):
                    member.name = path
                    archive.extract(member, folder, filter="data")


if __name__ == "__main__":
    fetch(Path(sys.argv[1]).resolve())
