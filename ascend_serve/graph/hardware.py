"""Kinds of NPU, as far as graph mode treats them differently."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Soc(StrEnum):
    """Families of vllm-ascend's ``AscendDeviceType`` (0.23.0), by their product names."""

    ATLAS_A2 = "910B"
    ATLAS_A3 = "910C"
    ATLAS_300I = "310P"
    ATLAS_A5 = "950"


MEMORY_GIB: Mapping[Soc, float] = MappingProxyType(
    {Soc.ATLAS_A2: 64.0, Soc.ATLAS_A3: 64.0, Soc.ATLAS_300I: 43.0, Soc.ATLAS_A5: 112.0}
)
"""Memory of an NPU as `npu-smi info` shows it: 65536 MB on 910B3 and on each half of a 910C, 43693 MB on a chip of 300I
Duo, 114688 MB on 950PR. There are others of the same kind with less: 910B4 has 32 GiB."""
