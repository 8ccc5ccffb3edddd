"""Kinds of NPU, as far as graph mode treats them differently."""

from __future__ import annotations

from enum import StrEnum


class Soc(StrEnum):
    """Families of vllm-ascend's ``AscendDeviceType`` (0.23.0), by their product names."""

    ATLAS_A2 = "910B"
    ATLAS_A3 = "910C"
    ATLAS_300I = "310P"
    ATLAS_A5 = "950"
