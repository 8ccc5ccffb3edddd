"""Versions that go together: the release matrix of vllm-ascend, and how version texts compare.

Source of the rows: the release notes of vllm-ascend. Source of the driver's minimum: the error text
``alloc sq cq fail``, which driver stacks (HDK) before 25.5.1 give when graphs are captured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

MINIMUM_HDK = "25.5.1"
MINIMUM_RAY = "2.60"
_LEADING_NUMBERS = re.compile(r"\d+(?:\.\d+)*")


@dataclass(frozen=True, slots=True)
class Release:
    """One row of the matrix; ``cann`` is the start of the version, the packages are exact."""

    vllm_ascend: str
    vllm: str
    torch: str
    torch_npu: str
    cann: str

    @property
    def packages(self) -> Mapping[str, str]:
        """Version by package name."""
        return {"vllm": self.vllm, "torch": self.torch, "torch_npu": self.torch_npu}


RELEASES = (
    Release(vllm_ascend="0.23.0", vllm="0.23.0", torch="2.10.0", torch_npu="2.10.0.post4", cann="9.1"),
    Release(vllm_ascend="0.23.0.post1", vllm="0.23.0", torch="2.10.0", torch_npu="2.10.0.post4", cann="9.1"),
)


def release_of(vllm_ascend: str) -> Release | None:
    """The matrix row of an installed vllm-ascend, or ``None`` when there is none."""
    return next((release for release in RELEASES if release.vllm_ascend == public(vllm_ascend)), None)


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
