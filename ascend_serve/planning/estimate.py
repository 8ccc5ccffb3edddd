"""Estimated time and memory of capture, scaled from two published measurements.

Both are of piecewise graphs with vllm-ascend: 24 layers x 67 sizes took 36 s and 0.21 GiB, 48 layers x 39 sizes took
38 s and 0.45 GiB. The range is what these two say per layer and size. For full graphs, of which no figures are
published, the same serve as an upper bound: a full graph holds the same kernels, and fewer pieces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from pydantic import BaseModel, ConfigDict

from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import GraphMode

SECONDS_PER_LAYER = (38 / (48 * 39), 36 / (24 * 67))
GIB_PER_LAYER = (0.21 / (24 * 67), 0.45 / (48 * 39))


class Range(BaseModel):
    """From ``low`` to ``high``."""

    model_config = ConfigDict(frozen=True)

    low: float
    high: float


def capture_seconds(keys: Collection[GraphKey], num_layers: int) -> Range:
    """Seconds of warm-up and capture of all ``keys`` on one rank."""
    return _scaled(SECONDS_PER_LAYER, keys, num_layers)


def capture_memory_gib(keys: Collection[GraphKey], num_layers: int) -> Range:
    """GiB of device memory that all ``keys`` take on one rank."""
    return _scaled(GIB_PER_LAYER, keys, num_layers)


def _scaled(per_layer: tuple[float, float], keys: Collection[GraphKey], num_layers: int) -> Range:
    kinds = Counter(key.kind for key in keys)
    low = per_layer[0] * num_layers * kinds[GraphMode.PIECEWISE]
    high = per_layer[1] * num_layers * kinds.total()
    return Range(low=round(low, 3), high=round(high, 3))
