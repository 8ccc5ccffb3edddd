"""The vendors' releases that the code for the device is written against, unpacked from the package index.

Wheels are downloaded by pip into ``.cache/vendors`` once, and only their Python sources are kept; continuous
integration keeps the folder. A wheel of vLLM has hundreds of MB, and of most releases of vllm-ascend there is none, so
what is used of those was recorded (``releases.py``).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.contract.symbols import Sources

CACHE = Path(__file__).parents[2] / ".cache" / "vendors"
PLATFORMS = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64", "manylinux2014_x86_64")
SUFFIXES = (".py", ".pyi")


class NotAvailable(Exception):
    """A release is neither in the cache nor to be had from the package index."""


@dataclass(frozen=True)
class Release:
    """One release of a vendor.

    Attributes:
        package: Name on the package index.
        version: Version.
    """

    package: str
    version: str

    @property
    def folder(self) -> Path:
        """Where its sources are kept."""
        return CACHE / f"{self.package}-{self.version}"

    def sources(self) -> Sources:
        """Its sources, downloaded if need be.

        Raises:
            NotAvailable: They cannot be downloaded.
        """
        if not self.folder.exists():
            self._fetch()
        return Sources(f"{self.package} {self.version}", self.folder)

    def unpack(self, folder: Path, is_wanted: Callable[[str], bool]) -> None:
        """Download its wheel and unpack the files whose names are wanted.

        Raises:
            NotAvailable: It cannot be downloaded.
        """
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            self._download(scratch)
            for wheel in Path(scratch).glob("*.whl"):
                with zipfile.ZipFile(wheel) as archive:
                    archive.extractall(folder, [name for name in archive.namelist() if is_wanted(name)])

    def _fetch(self) -> None:
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            unpacked = Path(scratch) / "unpacked"
            self.unpack(unpacked, lambda name: name.endswith(SUFFIXES))
            unpacked.rename(self.folder)

    def _download(self, folder: str) -> None:
        where = [word for platform in PLATFORMS for word in ("--platform", platform)]
        only = ["--no-deps", "--only-binary=:all:", "--python-version", "3.11", "--implementation", "cp", *where]
        command = [sys.executable, "-m", "pip", "download", "--quiet", *only, "--dest", folder]
        done = subprocess.run(
            [*command, f"{self.package}=={self.version}"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1:] or ["pip failed"]
            raise NotAvailable(
                f"{self.package} {self.version} is not in {CACHE} and cannot be downloaded: {reason[0]}. "
                f"The contract is checked against its sources: run this once with a package index at hand."
            )


VLLM_ASCEND = Release("vllm-ascend", "0.23.0")
TORCH_NPU = Release("torch-npu", "2.10.0.post4")
XLITE = Release("xlite", "0.2.0rc4")


def installed_vllm() -> Sources:
    """vLLM as installed here."""
    return _installed("vllm")


def installed_ray() -> Sources:
    """Ray as installed here."""
    return _installed("ray")


def _installed(package: str) -> Sources:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Sources(f"{package} as installed", Path(spec.origin).parents[1])
