"""Graph modes and runtimes, spelled as vLLM and vllm-ascend spell them."""

from __future__ import annotations

from enum import StrEnum


class GraphMode(StrEnum):
    """vLLM's ``CUDAGraphMode`` by name (``vllm/config/compilation.py``, equal in 0.23.0 and 0.32.0)."""

    NONE = "NONE"
    PIECEWISE = "PIECEWISE"
    FULL = "FULL"
    FULL_DECODE_ONLY = "FULL_DECODE_ONLY"
    FULL_AND_PIECEWISE = "FULL_AND_PIECEWISE"

    @property
    def decode_mode(self) -> GraphMode:
        """The kind of graph that a uniform decode batch replays: ``FULL``, ``PIECEWISE`` or ``NONE``."""
        return _STAGES[self][0]

    @property
    def mixed_mode(self) -> GraphMode:
        """The kind of graph that a batch with prefill tokens replays: ``FULL``, ``PIECEWISE`` or ``NONE``."""
        return _STAGES[self][1]

    @property
    def separate_routine(self) -> bool:
        """Whether decode and mixed batches have graphs of their own."""
        return self in (GraphMode.FULL_DECODE_ONLY, GraphMode.FULL_AND_PIECEWISE)


_STAGES = {
    GraphMode.NONE: (GraphMode.NONE, GraphMode.NONE),
    GraphMode.PIECEWISE: (GraphMode.PIECEWISE, GraphMode.PIECEWISE),
    GraphMode.FULL: (GraphMode.FULL, GraphMode.FULL),
    GraphMode.FULL_DECODE_ONLY: (GraphMode.FULL, GraphMode.NONE),
    GraphMode.FULL_AND_PIECEWISE: (GraphMode.FULL, GraphMode.PIECEWISE),
}


class RuntimeName(StrEnum):
    """What a rank replays with."""

    ACLGRAPH = "aclgraph"
    XLITE = "xlite"
    EAGER = "eager"


class Replan(StrEnum):
    """When a running group may capture other sizes."""

    OFF = "off"
    IDLE = "idle"


class OnFailure(StrEnum):
    """How far down the ladder a group may go when a capture fails."""

    DEGRADE = "degrade"
    EAGER = "eager"
    FAIL = "fail"
