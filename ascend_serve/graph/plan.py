"""What one rank can do (proposal) and what all ranks will do (plan)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import GraphMode, OnFailure, RuntimeName


@dataclass(frozen=True, slots=True)
class Adjustment:
    """One narrowing of what was asked for, with the rule that made it and the reason a person gets.

    Attributes:
        rule: Stable name, for example ``stream-budget`` or ``capture-failure``.
        before: What was asked for or held so far.
        after: What holds now.
        reason: One sentence for a person.
    """

    rule: str
    before: str
    after: str
    reason: str


@dataclass(frozen=True, slots=True)
class Switch:
    """An optimisation of the compiler that is on or off.

    Attributes:
        on: Whether it works on the ranks.
        reason: Why.
    """

    on: bool
    reason: str


@dataclass(frozen=True, slots=True)
class GraphRequest:
    """What the configuration asks of the whole capture group, and what its driver reads of the configuration.

    Keys of the section ``graph`` that have the name of a field travel to the driver by themselves.

    Attributes:
        runtime: The runtime wanted.
        mode: The mode wanted.
        capture_sizes: Candidate sizes, ascending, in tokens.
        on_failure: How far the group may step down.
        max_num_seqs: The scheduler's limit of requests in a batch.
        decode_query_len: Tokens per request in a decode step.
        lora_cases: Numbers of active LoRA adapters that get graphs of their own.
        weights: Share of decode steps per batch size in tokens, empty when unknown.
        max_sizes: Most sizes to choose of ``capture_sizes``; ``None`` for as many as there is room for.
    """

    runtime: RuntimeName
    mode: GraphMode
    capture_sizes: tuple[int, ...]
    on_failure: OnFailure = OnFailure.DEGRADE
    max_num_seqs: int = 256
    decode_query_len: int = 1
    lora_cases: tuple[int, ...] = (0,)
    weights: Mapping[int, float] = field(default_factory=dict)
    max_sizes: int | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one rank can do.

    Attributes:
        runtimes: Runtimes that work on this rank, best first; always ends with ``eager``.
        mode: The mode vLLM resolved on this rank.
        capture_sizes: Sizes that are valid on this rank, ascending, in tokens.
        stream_budget: Streams left for graphs, or ``None`` when unknown.
        streams_per_full: Streams that one ``FULL`` graph takes on this rank.
        streams_per_piecewise: Streams that all pieces of one ``PIECEWISE`` size take on this rank.
        free_memory: Bytes free on the device, or ``None`` when unknown.
        fingerprint: What must be equal on all ranks, by name: model files, configuration, versions, dtype.
        refusals: Why a runtime that was asked for does not work here, by runtime name.
        notes: Narrowings that this rank's vLLM made on its own.
        versions: Version of a runtime's own package, by runtime name; ranks with different ones cannot share it.
        loaded: The runtime that this rank loaded its model for and resolved its mode with; its best when not told.
    """

    runtimes: tuple[RuntimeName, ...]
    mode: GraphMode
    capture_sizes: tuple[int, ...]
    stream_budget: int | None = None
    streams_per_full: int = 1
    streams_per_piecewise: int = 1
    free_memory: int | None = None
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    refusals: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[Adjustment, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    loaded: RuntimeName | None = None

    @property
    def resolved_for(self) -> RuntimeName:
        """The runtime that ``mode`` goes with."""
        return self.loaded or self.runtimes[0]


@dataclass(frozen=True, slots=True)
class CapturePlan:
    """What all ranks will do.

    Attributes:
        epoch: Grows with every change of the plan inside a session.
        runtime: The runtime of every rank.
        mode: The mode of every rank.
        capture_sizes: Sizes in the plan, ascending, in tokens.
        keys: Graphs to capture, in capture order.
        adjustments: Every narrowing so far, oldest first.
    """

    epoch: int
    runtime: RuntimeName
    mode: GraphMode
    capture_sizes: tuple[int, ...]
    keys: tuple[GraphKey, ...]
    adjustments: tuple[Adjustment, ...] = ()

    @property
    def is_eager(self) -> bool:
        """Whether this plan replays nothing: ``ladder.make_plan`` gives no other runtime to such a one."""
        return self.runtime is RuntimeName.EAGER
