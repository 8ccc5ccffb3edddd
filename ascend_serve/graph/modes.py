"""Graph modes and runtimes, spelled as vLLM and vllm-ascend spell them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


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


@dataclass(frozen=True, slots=True)
class RuntimeTraits:
    """What sets a graph runtime apart from the others.

    Attributes:
        title: As a person writes it.
        captures: Whether it replays graphs that are captured, which takes streams.
        modes: Modes in which it replays anything. In all but ``NONE`` batches are padded to the capture sizes.
        lower: What the group goes on with where it cannot run; ``None`` at the end of the ladder.
        lower_mode: The mode that goes with ``lower``, where the runtime has modes of its own.
    """

    title: str
    captures: bool = False
    modes: frozenset[GraphMode] = frozenset()
    lower: RuntimeName | None = None
    lower_mode: GraphMode | None = None


RUNTIMES: Mapping[RuntimeName, RuntimeTraits] = MappingProxyType(
    {
        RuntimeName.EAGER: RuntimeTraits("eager"),
        RuntimeName.ACLGRAPH: RuntimeTraits(
            "ACLGraph",
            captures=True,
            modes=frozenset(GraphMode) - {GraphMode.NONE},
            lower=RuntimeName.EAGER,
        ),
        RuntimeName.XLITE: RuntimeTraits(
            "Xlite",
            modes=frozenset({GraphMode.NONE, GraphMode.FULL_DECODE_ONLY}),
            lower=RuntimeName.ACLGRAPH,
            lower_mode=GraphMode.FULL_DECODE_ONLY,
        ),
    }
)
"""All runtimes, from the plainest to the most specialised."""


class Replan(StrEnum):
    """When a running group may capture other sizes."""

    OFF = "off"
    IDLE = "idle"


class OnFailure(StrEnum):
    """How far down the ladder a group may go when a capture fails."""

    DEGRADE = "degrade"
    EAGER = "eager"
    FAIL = "fail"
