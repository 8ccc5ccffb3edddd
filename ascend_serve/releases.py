"""Versions that go together: the release matrix, the only place where they stand, and how version texts compare.

`doctor`, `plan`, `install`, the documents and the tests read it. A row follows upstream's compatibility matrix; where
each figure of a row stands in vllm-ascend's repository, at the tag of the row, is in ``Release.sources``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from importlib import metadata
from types import MappingProxyType

_MATRIX = "docs/source/community/versioning_policy.md"
_PINS = "requirements.txt"
_IMAGE = "Dockerfile"
_TEST_PINS = "requirements-dev.txt"
_NOTES = "docs/source/user_guide/release_notes.md"

MINIMUM_HDK = "25.5.1"
"""Driver stacks before it give ``alloc sq cq fail`` when graphs are captured (vllm-ascend's notes for 0.21.0rc1)."""

MINIMUM_RAY = "2.60"
"""Ray Serve as this project uses it; above what upstream's images have (``Release.image_ray``), see `RAY_REASON`."""

RAY_REASON = (
    "Upstream's images pin Ray 2.47.1 to 2.48.0, since later ones counted NPUs wrongly (pull request 3660 of "
    "vllm-ascend). Here Ray is told how many NPUs a node has, by launch/head.sh and launch/worker.sh."
)
"""Why the pin of the images is raised."""

OLDEST_GLIBC = "2.34"
"""Of the wheels of vllm-ascend 0.23.0 and of several packages that it needs (their tag, ``manylinux_2_34``)."""

ARCHITECTURES = ("x86_64", "aarch64")
"""Processors that upstream has wheels for."""

_LEADING_NUMBERS = re.compile(r"\d+(?:\.\d+)*")


class ModelRunner(StrEnum):
    """The two of vLLM's model runners, by the number that vLLM gives them (``VLLM_USE_V2_MODEL_RUNNER``)."""

    V1 = "v1"
    V2 = "v2"


@dataclass(frozen=True, slots=True)
class Release:
    """One row of the matrix.

    Attributes:
        vllm_ascend: Version of vllm-ascend.
        vllm: Version of vLLM that it is made for.
        transformers: Version of transformers that it asks for.
        xlite: Version of Xlite that upstream tests it with.
        cann: Version of CANN and NNAL.
        hdk: Version of the driver stack (HDK) that upstream names for it; ``MINIMUM_HDK`` where it names none.
        torch: Version of torch.
        torchvision: Version of torchvision.
        torchaudio: Version of torchaudio.
        torch_npu: Version of torch_npu.
        triton_ascend: Version of triton-ascend.
        oldest_python: The oldest Python that it supports.
        newest_python: The newest Python that it supports.
        image_ray: Ray in upstream's images, oldest and newest.
        runner: The model runner that runs where nothing is set.
        runners: All of its model runners.
        xlite_pads_decode: Whether vllm-ascend keeps ``FULL_DECODE_ONLY``, and with it padding to capture sizes, for the
            decode steps that Xlite takes.
        xlite_families: Architectures that its Xlite has an adapter for.
        sources: Files of vllm-ascend's repository at the tag of the release, by the figures that they hold.
    """

    vllm_ascend: str
    vllm: str
    transformers: str
    xlite: str
    cann: str = "9.1.0"
    hdk: str = MINIMUM_HDK
    torch: str = "2.10.0"
    torchvision: str = "0.25.0"
    torchaudio: str = "2.10.0"
    torch_npu: str = "2.10.0.post4"
    triton_ascend: str = "3.2.2"
    oldest_python: str = "3.10"
    newest_python: str = "3.12"
    image_ray: tuple[str, str] = ("2.47.1", "2.48.0")
    runner: ModelRunner = ModelRunner.V1
    runners: tuple[ModelRunner, ...] = (ModelRunner.V1, ModelRunner.V2)
    xlite_pads_decode: bool = True
    xlite_families: frozenset[str] = frozenset()
    sources: Mapping[str, str] = field(default_factory=lambda: _SOURCES)

    @property
    def packages(self) -> Mapping[str, str]:
        """Version by package name, of those that a node is checked for."""
        return {"vllm": self.vllm, "torch": self.torch, "torch_npu": self.torch_npu}

    @property
    def companions(self) -> Mapping[str, str]:
        """Version by package name, of those that it goes on with in another version, for better or worse."""
        return {"transformers": self.transformers, "triton-ascend": self.triton_ascend}

    @property
    def runtime_packages(self) -> Mapping[str, str]:
        """Version by package name, of those that a graph runtime alone needs."""
        return {"xlite": self.xlite}

    @property
    def cann_line(self) -> str:
        """The release line of CANN, which has to fit."""
        return ".".join(self.cann.split(".")[:2])

    @property
    def pythons(self) -> str:
        """The supported Pythons, for people."""
        return f"{self.oldest_python} to {self.newest_python}"

    def supports_python(self, version: str) -> bool:
        """Whether a Python of this version can run it."""
        oldest, newest = numbers(self.oldest_python), numbers(self.newest_python)
        return oldest <= numbers(version)[:2] <= newest


_SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "vllm": f"{_MATRIX}; {_IMAGE}, VLLM_TAG",
        "transformers": _PINS,
        "xlite": _TEST_PINS,
        "cann": f"{_MATRIX}; {_IMAGE}, the base image",
        "hdk": f"{_NOTES}, v0.21.0rc1: graphs need HDK 25.5.1 or later; the release names none of its own",
        "torch": f"{_MATRIX}; {_PINS}",
        "torchvision": _PINS,
        "torchaudio": _PINS,
        "torch_npu": f"{_MATRIX}; {_PINS}",
        "triton_ascend": f"{_MATRIX}; {_PINS}",
        "oldest_python": _MATRIX,
        "newest_python": _MATRIX,
        "image_ray": _IMAGE,
        "runner": "vllm_ascend/patch/platform/patch_use_v2_model_runner.py",
        "runners": "vllm_ascend/worker/worker.py, NPUWorker.init_device",
        "xlite_pads_decode": "vllm_ascend/platform.py, where it reads xlite_graph_config",
        "xlite_families": "vllm_ascend/xlite/xlite.py, _supported_architectures",
    }
)

_FIRST_XLITE_FAMILIES = frozenset(
    {
        "Glm4MoeForCausalLM",
        "LlamaForCausalLM",
        "MiniMaxM2ForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "Qwen3MoeForCausalLM",
        "Qwen3VLForConditionalGeneration",
        "Qwen3VLMoeForConditionalGeneration",
    }
)
_LATER_XLITE_FAMILIES = frozenset({"DeepseekV3ForCausalLM", "DeepseekV32ForCausalLM", "GlmMoeDsaForCausalLM"})
"""Since 0.27.1rc1."""

_OF_0_23 = Release(
    vllm_ascend="0.23.0",
    vllm="0.23.0",
    transformers="5.5.4",
    xlite="0.1.0rc11.dev210",
    runners=(ModelRunner.V1,),
    xlite_families=_FIRST_XLITE_FAMILIES,
)

RELEASES = (
    _OF_0_23,
    replace(_OF_0_23, vllm_ascend="0.23.0.post1"),
    Release(
        vllm_ascend="0.26.0rc1",
        vllm="0.26.0",
        transformers="5.14.1",
        xlite="0.1.0rc12.dev210",
        xlite_families=_FIRST_XLITE_FAMILIES,
    ),
    Release(
        vllm_ascend="0.30.0rc2",
        vllm="0.30.0",
        transformers="5.14.1",
        xlite="0.2.0rc1",
        cann="9.2.0",
        hdk="26.0",
        xlite_pads_decode=False,
        xlite_families=_FIRST_XLITE_FAMILIES | _LATER_XLITE_FAMILIES,
        sources={**_SOURCES, "hdk": f"{_NOTES}, v0.30.0rc1, Dependencies: 26.0.RC1"},
    ),
)
"""From the oldest to the newest."""

DEFAULT = next(release for release in reversed(RELEASES) if "rc" not in release.vllm_ascend)
"""The newest that is no candidate: what is installed, and planned for, where nothing else is said."""


def release_of(vllm_ascend: str) -> Release | None:
    """The matrix row of an installed vllm-ascend, or ``None`` when there is none."""
    return next((release for release in RELEASES if release.vllm_ascend == public(vllm_ascend)), None)


def nearest(vllm_ascend: str) -> Release:
    """The row that is likest to a version of vllm-ascend: its own, or the newest before it.

    Args:
        vllm_ascend: The version; empty where none is installed, which means `DEFAULT`.
    """
    before = [release for release in RELEASES if numbers(release.vllm_ascend) <= numbers(vllm_ascend)]
    return release_of(vllm_ascend) or (before[-1] if before and vllm_ascend else DEFAULT)


def known_releases() -> str:
    """The releases of the matrix, for people."""
    return ", ".join(release.vllm_ascend for release in RELEASES)


def installed_version(package: str = "vllm-ascend") -> str:
    """The version of a package by its metadata, which imports nothing; empty where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def public(version: str) -> str:
    """A version without its local part: ``2.10.0+cpu`` is ``2.10.0``."""
    return version.partition("+")[0]


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``25.3.rc1`` is ``(25, 3)``."""
    match = _LEADING_NUMBERS.match(version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def at_least(version: str, minimum: str) -> bool:
    """Whether the leading numbers of ``version`` reach ``minimum``."""
    return numbers(version) >= numbers(minimum)


def starts_with(version: str, prefix: str) -> bool:
    """Whether the leading numbers of ``version`` begin with those of ``prefix``."""
    wanted = numbers(prefix)
    return numbers(version)[: len(wanted)] == wanted
