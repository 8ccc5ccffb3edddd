"""The steps of a set-up, in upstream's order, as pip's command lines. Nothing is run here.

Order and pieces are those of vllm-ascend's ``Dockerfile`` and installation page: torch and torch_npu, what vLLM and
vllm-ascend ask for, vLLM built for no device (its wheel is for CUDA and asks for another torch), vllm-ascend,
triton-ascend last, since community Triton writes to the same files.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ascend_serve.install.packages import SOURCE_ONLY, X86_64, lock_of, locked, torch_pins
from ascend_serve.releases import Release

ASCEND_INDEX = "ASCEND_SERVE_ASCEND_INDEX"
"""Variable with the address of the vendor's package index."""

TORCH_INDEX = "ASCEND_SERVE_TORCH_INDEX"
"""Variable with the address of PyTorch's package index for CPU builds."""

_BUILT_HERE = ("--no-build-isolation",)
"""With the build tools of the lock and the release's torch: by itself each would bring another torch to build with."""


@dataclass(frozen=True, slots=True)
class Node:
    """The machine, as far as packages depend on it.

    Attributes:
        processor: Name of its architecture.
        npu: Name of its NPUs in ``npu-smi info``, for example ``910B3``; empty where there are none.
    """

    processor: str
    npu: str = ""

    @property
    def takes_wheel(self) -> bool:
        """Whether upstream's wheels of vllm-ascend are made for it: they are for Atlas A2."""
        return self.npu.startswith("910B")

    @property
    def has_triton(self) -> bool:
        """Whether triton-ascend supports it: Atlas 300I and 200I are left out."""
        return not self.npu.startswith("310")


@dataclass(frozen=True, slots=True)
class PackageSource:
    """Where packages come from, beside the package index that pip is set up for.

    Attributes:
        ascend_index: Address of the vendor's index.
        torch_index: Address of PyTorch's index for CPU builds.
        wheels: A folder of wheels: what is not there is put there, and other nodes need neither network nor compiler.
        offline: Whether nothing but ``wheels`` is asked.
    """

    ascend_index: str = ""
    torch_index: str = ""
    wheels: Path | None = None
    offline: bool = False


@dataclass(frozen=True, slots=True)
class InstallStep:
    """One step.

    Attributes:
        title: What it installs.
        packages: Version by name of what is there afterwards.
        hint: What to look at where it fails.
        requirements: What pip is asked for; the packages where nothing is said.
        options: Options of pip for it, which do not matter where wheels are there already.
        environment: Variables for pip.
        index: Address of a further package index.
        removed: Packages that have to go first.
        resolves: Whether pip may bring what the packages ask for.
        without: Beginnings of requirements that an installed package must not have: then it is another build.
    """

    title: str
    packages: Mapping[str, str]
    hint: str
    requirements: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    index: str = ""
    removed: tuple[str, ...] = ()
    resolves: bool = False
    without: str = ""

    @property
    def asked(self) -> tuple[str, ...]:
        """What pip is asked for."""
        return self.requirements or tuple(f"{name}=={version}" for name, version in self.packages.items())


def steps_of(row: Release, node: Node, source: PackageSource) -> list[InstallStep]:
    """All steps of a row on a node, in their order."""
    pins = locked(row)
    built = {name: pins[name] for name in SOURCE_ONLY}
    wheels = {name: version for name, version in pins.items() if name not in SOURCE_ONLY}
    triton = [_triton(row, source)] if node.has_triton else []
    return [_torch(row, node, source), _packages(wheels), _built(built), _vllm(row), _vllm_ascend(row, node), *triton]


def _torch(row: Release, node: Node, source: PackageSource) -> InstallStep:
    cpu = f"torch's CPU builds for x86-64 are on PyTorch's own index: give its address as {TORCH_INDEX}"
    return InstallStep(
        f"torch {row.torch} and torch_npu {row.torch_npu}",
        torch_pins(row, node.processor),
        cpu if node.processor == X86_64 else "see pip's message above",
        index=source.torch_index,
    )


def _packages(pins: Mapping[str, str]) -> InstallStep:
    hint = "these are on the Python Package Index, as wheels for x86-64 and aarch64: see pip's message above"
    return InstallStep(f"{len(pins)} packages that vLLM and vllm-ascend ask for", pins, hint)


def _built(pins: Mapping[str, str]) -> InstallStep:
    hint = "there are no wheels of it, so it is compiled: g++ has to be there"
    return InstallStep(
        ", ".join(f"{name} {version}" for name, version in pins.items()),
        pins,
        hint,
        options=_BUILT_HERE,
        # CMake would take the first Python on PATH, which need not be this one, nor have nanobind.
        environment={"CMAKE_ARGS": f"-DPython_EXECUTABLE={sys.executable}"},
    )


def _vllm(row: Release) -> InstallStep:
    # Without the override the version is 0.23.0+empty, and pip refuses a source that calls itself otherwise.
    return InstallStep(
        f"vLLM {row.vllm}, built for no device",
        {"vllm": row.vllm},
        "it is built from its source distribution, without a compiler: see pip's message above",
        options=(*_BUILT_HERE, "--no-binary=vllm"),
        environment={"VLLM_TARGET_DEVICE": "empty", "VLLM_VERSION_OVERRIDE": row.vllm},
        without="torch",
    )


def _vllm_ascend(row: Release, node: Node) -> InstallStep:
    return InstallStep(
        f"vllm-ascend {row.vllm_ascend} (where it is compiled: up to an hour)",
        {"vllm-ascend": row.vllm_ascend},
        "it is compiled with CANN: `source` set_env.sh of CANN and of NNAL first, and set SOC_VERSION where npu-smi is "
        "not there (its installation page has the values)",
        options=_BUILT_HERE if node.takes_wheel else (*_BUILT_HERE, "--no-binary=vllm-ascend"),
    )


def _triton(row: Release, source: PackageSource) -> InstallStep:
    return InstallStep(
        f"triton-ascend {row.triton_ascend}",
        {"triton-ascend": row.triton_ascend},
        "only the vendor's package index has this version: give its address, which is on vllm-ascend's installation "
        f"page (--extra-index-url), as {ASCEND_INDEX}",
        requirements=(f"triton-ascend=={row.triton_ascend}", "--constraint", str(lock_of(row))),
        index=source.ascend_index,
        removed=("triton", "triton-ascend"),
        resolves=True,
    )


def commands(step: InstallStep, source: PackageSource) -> list[list[str]]:
    """Command lines of a step; the last one installs, from the folder of wheels alone where there is one."""
    pip = [sys.executable, "-m", "pip"]
    quiet = ["--quiet", "--disable-pip-version-check", *([] if step.resolves else ["--no-deps"])]
    index = ["--extra-index-url", step.index] if step.index else []
    remove = [[*pip, "uninstall", "--quiet", "--yes", *step.removed]] if step.removed else []
    if source.wheels is None:
        return [*remove, [*pip, "install", *quiet, *index, *step.options, *step.asked]]
    folder = ["--find-links", str(source.wheels)]
    fill = [[*pip, "wheel", *quiet, *index, *folder, "--wheel-dir", str(source.wheels), *step.options, *step.asked]]
    take = [*pip, "install", *quiet, "--no-index", *folder, *step.asked]
    return [*([] if source.offline else fill), *remove, take]
