"""Whether what a row of the release matrix installs goes together, from recorded metadata alone.

What pip's resolver would ask an index for is in ``resolution.json``; ``record.py`` writes it.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from ascend_serve.install.packages import BUILD_TOOLS, OVERRIDES, X86_64, locked, torch_pins
from ascend_serve.releases import Release

RECORDED = Path(__file__).with_name("resolution.json")
PYTHONS = ("3.11", "3.12")
"""Those that both this project and all rows support."""

PLACED_APART = ("torch", "torchvision", "torchaudio", "torch-npu", "triton", "triton-ascend")
"""Packages with steps of their own in the set-up."""

BROUGHT = ("triton",)
"""Packages that come with triton-ascend (its documentation, 3.2.1 and later), in a version that is its own affair."""

VENDORS_INDEX = ("triton-ascend",)
"""Packages whose version only the vendor's index has, so that what they ask for is not recorded."""

CPU_BUILDS = ("torch", "torchvision", "torchaudio")
"""Packages that PyTorch's index has for x86-64. Those for aarch64 stand for them, which the Python Package Index has:
builds for the CPU ask for the same everywhere."""

OURS = tuple(
    tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
)

Needs = dict[str, list[str]]
"""What each package asks for, by ``name==version``."""


@dataclass(frozen=True)
class Pins:
    """All that is installed for a row on a processor.

    Attributes:
        versions: Version by name.
    """

    versions: Mapping[str, str]

    @classmethod
    def of(cls, row: Release, processor: str) -> Pins:
        """Those of the lock, and those of the other steps."""
        apart = {**torch_pins(row, processor), "triton-ascend": row.triton_ascend}
        return cls({**locked(row), **apart})

    @property
    def on_index(self) -> dict[str, str]:
        """Those whose metadata the Python Package Index has."""
        return {name: Version(version).public for name, version in self.versions.items() if name not in VENDORS_INDEX}

    def key(self, name: str) -> str:
        """How a package is called in the record."""
        return f"{name}=={Version(self.versions[name]).public}"


def environment(processor: str, python: str) -> dict[str, str]:
    """What markers ask for."""
    return {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": processor,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }


@cache
def _parsed(text: str) -> Requirement:
    return Requirement(text)


def _counts(requirement: Requirement, extras: Iterable[str], where: Mapping[str, str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({**where, "extra": extra}) for extra in ("", *extras))


def asked_for(
    roots: Mapping[str, Iterable[str]], needs: Mapping[str, Iterable[str]], pins: Pins, where: Mapping[str, str]
) -> Iterator[tuple[str, Requirement]]:
    """Everything that is asked for, by whom.

    Args:
        roots: What is asked for from outside, by whom.
        needs: What each package asks for.
        pins: What is installed.
        where: Processor and Python, for markers.
    """
    waiting: list[tuple[str, Requirement, tuple[str, ...]]]
    waiting = [(who, _parsed(text), ()) for who, texts in roots.items() for text in texts]
    seen: set[tuple[str, str]] = set()
    while waiting:
        who, requirement, extras = waiting.pop()
        if not _counts(requirement, extras, where):
            continue
        yield who, requirement
        name = str(canonicalize_name(requirement.name))
        new = {extra for extra in ("", *requirement.extras) if (name, extra) not in seen}
        if new and name in pins.versions:
            seen |= {(name, extra) for extra in new}
            key = pins.key(name)
            waiting += [(key, _parsed(text), tuple(new)) for text in needs.get(key, ())]


def needs_of(
    asked: Mapping[str, Iterable[str]], pins: Pins, found: Mapping[str, Iterable[str]], processor: str
) -> Needs:
    """Of what pip found, what counts on a processor: without extras that nobody wants and other systems."""
    needs = {pins.key(str(canonicalize_name(name))): sorted(texts) for name, texts in found.items()}
    roots = {**asked, "ascend-serve": OURS, "the build": BUILD_TOOLS}
    wanted: Needs = {key: [] for key in needs}
    for python in PYTHONS:
        for who, requirement in asked_for(roots, needs, pins, environment(processor, python)):
            if who in wanted and str(requirement) not in wanted[who]:
                wanted[who].append(str(requirement))
    return {key: sorted(texts) for key, texts in wanted.items()}


def recorded() -> Any:
    """What ``record.py`` wrote."""
    return json.loads(RECORDED.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Resolution:
    """How a row fares on a processor with a Python.

    Attributes:
        conflicts: Requirements that what is installed does not fulfil, but for those that are overridden.
        overridden: Names of packages with a requirement that is not fulfilled on purpose.
        unused: Packages that nobody asks for.
    """

    conflicts: list[str]
    overridden: set[str]
    unused: set[str]


def resolve(record: Any, row: Release, processor: str, python: str) -> Resolution:
    """Hold all that is asked for against all that is installed."""
    pins = Pins.of(row, processor)
    needs = dict(record["packages"][processor])
    if processor == X86_64:
        needs |= {pins.key(name): record["packages"]["aarch64"][pins.key(name)] for name in CPU_BUILDS}
    roots = {**_upstream(record, row), "ascend-serve": OURS, "the build": BUILD_TOOLS}
    conflicts, overridden, used = [], set(), set()
    for who, requirement in asked_for(roots, needs, pins, environment(processor, python)):
        name = str(canonicalize_name(requirement.name))
        used.add(name)
        version = pins.versions.get(name)
        if name in BROUGHT:
            continue
        if version is not None and requirement.specifier.contains(version, prereleases=True):
            continue
        if name in OVERRIDES:
            overridden.add(name)
        else:
            conflicts.append(f"{who} asks for {requirement}, installed is {version}")
    return Resolution(conflicts, overridden, set(pins.versions) - used)


def _upstream(record: Any, row: Release) -> Mapping[str, list[str]]:
    same = [name for name in record["upstream"] if re.match(rf"{re.escape(row.vllm_ascend)}(\.post\d+)?$", name)]
    asked: dict[str, list[str]] = record["upstream"][same[0]]
    return asked
