"""What ranks tell the driver, and what the driver answers.

A rank asks one question at a time and waits for the verdict. ``incarnation`` counts the worker processes that a rank
had before this one, so it starts at 0; ``epoch`` counts the plans of a session, so it starts at 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ascend_serve.graph.death import Death
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.plan import CapturePlan, Proposal


class Phase(StrEnum):
    """Where in a start-up a rank is; also the names of the phases of scripted faults, which strike in no other."""

    JOIN = "join"
    PROPOSE = "propose"
    WARMUP = "warmup"
    CAPTURE = "capture"
    SEAL = "seal"
    SERVE = "serve"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Join:
    """A rank is there. Answered with ``PROPOSE`` when all ranks are there.

    ``instruction_set`` names what an emulated NPU computes with; it is empty for a real one.
    """

    rank: int
    incarnation: int
    node: str
    pid: int = 0
    instruction_set: str = ""


@dataclass(frozen=True, slots=True)
class Propose:
    """What a rank can do. Answered with ``PLAN``."""

    rank: int
    incarnation: int
    proposal: Proposal


@dataclass(frozen=True, slots=True)
class Arrive:
    """A rank stands before the warm-up of ``key``. Answered with ``GO`` when all ranks do.

    Answered with ``COMMIT`` at once when all ranks hold the graph already.
    """

    rank: int
    incarnation: int
    epoch: int
    key: GraphKey


@dataclass(frozen=True, slots=True)
class CaptureResult:
    """How one graph went on one rank.

    Attributes:
        ok: Whether the graph can be replayed.
        seconds: Time of warm-up and capture on this rank.
        streams_used: Streams that this graph took, where the device tells.
        streams_left: Streams left after it (or when it was refused), where the device tells.
        memory: Bytes of the device's memory that warm-up and capture took, where there is a device.
        phase: Where it failed: ``warmup`` or ``capture``.
        error_type: Class name of the error.
        error_text: Text of the error, as the device gave it.
        recorded: Whether anything was recorded before the failure, so that the process may be polluted.
    """

    ok: bool
    seconds: float = 0.0
    streams_used: int | None = None
    streams_left: int | None = None
    phase: Phase | None = None
    error_type: str = ""
    error_text: str = ""
    recorded: bool = False
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Leave:
    """A rank is through with ``key``. Answered with ``COMMIT`` when all ranks captured it."""

    rank: int
    incarnation: int
    epoch: int
    key: GraphKey
    result: CaptureResult


@dataclass(frozen=True, slots=True)
class Seal:
    """A rank holds all graphs of the plan. Answered with ``SEALED`` when all digests are equal.

    Attributes:
        digest: Digest of the keys that the rank holds.
        canary_ok: Whether the canary's logits were reproduced bit for bit.
    """

    rank: int
    incarnation: int
    epoch: int
    digest: str
    canary_ok: bool = True


@dataclass(frozen=True, slots=True)
class Failed:
    """A rank cannot go on, outside of warm-up and capture of a graph. Answered as ``Leave`` with a failure is."""

    rank: int
    incarnation: int
    phase: Phase
    error_type: str
    error_text: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The executor saw a rank's process end, or a rank a step fail. Not a question: there is no one left to answer.

    Attributes:
        death: How it ended.
        node: Its node, should it never have joined.
        final: Whether the executor ends with it, as it does outside of a session.
    """

    rank: int
    incarnation: int
    death: Death
    node: str = ""
    final: bool = False


@dataclass(frozen=True, slots=True)
class Compiling:
    """A rank began to compile static kernels, for minutes. Not a question: it goes on without an answer."""

    rank: int
    incarnation: int
    directory: str


Question = Join | Propose | Arrive | Leave | Seal | Failed
Message = Question | Lost | Compiling


class VerdictKind(StrEnum):
    """What a rank does next."""

    PROPOSE = "propose"
    PLAN = "plan"
    GO = "go"
    COMMIT = "commit"
    SEALED = "sealed"
    REPLACE = "replace"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The driver's answer at a meeting point.

    ``PLAN`` also answers ``Arrive``, ``Leave`` and ``Seal``: the plan has changed, apply it and walk its keys. Graphs
    in ``kept`` stay; every other one is released and captured anew if the plan has it, also one that this rank captured
    but that was never committed. ``REPLACE`` ends this process: fresh workers will join as the next incarnation.
    ``ABORT`` ends the start-up.

    Attributes:
        kind: What to do.
        epoch: The session's epoch when it was given.
        plan: With ``PLAN``, ``SEALED`` and ``REPLACE``: the plan that holds now.
        kept: With ``PLAN``: graphs of the plan that every rank holds.
        reason: With ``ABORT`` and ``REPLACE``: why, for a person.
        remedy: With ``ABORT``: what to do next.
    """

    kind: VerdictKind
    epoch: int
    plan: CapturePlan | None = None
    kept: tuple[GraphKey, ...] = ()
    reason: str = ""
    remedy: str = ""
