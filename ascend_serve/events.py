"""The events of a deployment: one typed stream, of which report, page, metrics and terminal are views.

The driver of a capture group tells what happens in its session, the replica what happens to its engine. Each event is
one line of JSON in the stream that is kept (`ascend_serve.telemetry.event_log`), told apart by its ``kind``. Fields are
added, never renamed.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ascend_serve.graph.failure import FailureKind
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import Adjustment, CapturePlan, Switch


class EventKind(StrEnum):
    """What happened."""

    STARTED = "started"
    PHASE = "phase"
    JOINED = "joined"
    PROPOSED = "proposed"
    AGREED = "agreed"
    WARMING = "warming"
    COMPILING = "compiling"
    CAPTURED = "captured"
    COMMITTED = "committed"
    FAILED = "failed"
    DISCARDED = "discarded"
    REPLANNED = "replanned"
    REPLACED = "replaced"
    SEALED = "sealed"
    ABORTED = "aborted"
    READY = "ready"
    START_FAILED = "start_failed"
    RECAPTURED = "recaptured"
    ENGINE_DIED = "engine_died"
    ENGINE_STALLED = "engine_stalled"
    RESTART_FAILED = "restart_failed"
    ENGINE_RESTARTED = "engine_restarted"


class Event(BaseModel):
    """One thing that happened.

    Attributes:
        kind: What happened.
        time: Seconds since the epoch.
        incarnation: How many sets of worker processes the capture group had before.
        rank: The rank it happened on; ``None`` where it is the whole group's.
        key: Label of the graph it is about, for example ``FULL/8``.
        text: In words; the device's own where there are any.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: EventKind
    time: float
    incarnation: int = 0
    rank: int | None = None
    key: str | None = None
    text: str = ""


class Started(Event):
    """A replica begins to start its engine.

    Attributes:
        name: The model's name for clients.
        group: Name of the capture group.
        requested_runtime: The runtime that the configuration asks for.
        requested_mode: The mode that it asks for.
        planned: What planning narrowed before there was a driver, oldest first.
        options: What planning decided about optimisations of the compiler, by name.
        multiple_of: What capture sizes have to be multiples of.
        largest_batch: Largest decode batch that a graph could serve, in tokens; 0 where there is none.
        versions: Versions of what runs, by package.
    """

    kind: Literal[EventKind.STARTED] = EventKind.STARTED
    name: str = ""
    group: str = ""
    requested_runtime: RuntimeName
    requested_mode: GraphMode
    planned: tuple[Adjustment, ...] = ()
    options: dict[str, Switch] = {}
    multiple_of: int = 1
    largest_batch: int = 0
    versions: dict[str, str] = {}


class PhaseEnded(Event):
    """A phase of the start-up is over.

    Attributes:
        phase: Its name, as in the report's ``seconds``.
        seconds: How long it took.
    """

    kind: Literal[EventKind.PHASE] = EventKind.PHASE
    phase: str
    seconds: float


class Joined(Event):
    """A worker process is there, with its model loaded.

    Attributes:
        node: Name or address of its node.
        pid: Its process.
        ranks: How many ranks the group has.
        instruction_set: What an emulated NPU computes with; empty for a real one.
    """

    kind: Literal[EventKind.JOINED] = EventKind.JOINED
    rank: int
    node: str = ""
    pid: int = 0
    ranks: int = 0
    instruction_set: str = ""


class Proposed(Event):
    """A rank tells what it can do.

    Attributes:
        runtimes: Runtimes that work there, best first.
        mode: The mode that vLLM resolved there.
        capture_sizes: Sizes that are valid there, in tokens.
        stream_budget: Streams left for graphs; ``None`` when unknown.
    """

    kind: Literal[EventKind.PROPOSED] = EventKind.PROPOSED
    rank: int
    runtimes: tuple[RuntimeName, ...] = ()
    mode: GraphMode = GraphMode.NONE
    capture_sizes: tuple[int, ...] = ()
    stream_budget: int | None = None


class Agreed(Event):
    """All ranks have the same plan.

    Attributes:
        plan: What they will capture.
    """

    kind: Literal[EventKind.AGREED] = EventKind.AGREED
    plan: CapturePlan


class Warming(Event):
    """All ranks stand before a graph and are let into its warm-up and capture."""

    kind: Literal[EventKind.WARMING] = EventKind.WARMING
    key: str


class CompilingKernels(Event):
    """A rank began to compile static kernels, for minutes."""

    kind: Literal[EventKind.COMPILING] = EventKind.COMPILING
    rank: int


class Captured(Event):
    """A rank captured a graph.

    Attributes:
        seconds: Time of warm-up and capture there.
        streams_used: Streams that the graph took, where the device tells.
        streams_left: Streams left after it, where the device tells.
        memory: Bytes of the device's memory that warm-up and capture took, where there is a device.
    """

    kind: Literal[EventKind.CAPTURED] = EventKind.CAPTURED
    rank: int
    key: str
    seconds: float = 0.0
    streams_used: int | None = None
    streams_left: int | None = None
    memory: int | None = None


class Committed(Event):
    """All ranks hold a graph."""

    kind: Literal[EventKind.COMMITTED] = EventKind.COMMITTED
    key: str


class CaptureFailed(Event):
    """Something went wrong on a rank, or on the group.

    Attributes:
        failure: The class of the failure.
        advice: What a person can do about it.
    """

    kind: Literal[EventKind.FAILED] = EventKind.FAILED
    failure: FailureKind = FailureKind.UNKNOWN
    advice: str = ""


class Discarded(Event):
    """Graphs were released on all ranks that held them.

    Attributes:
        keys: Labels of the graphs.
    """

    kind: Literal[EventKind.DISCARDED] = EventKind.DISCARDED
    keys: tuple[str, ...]


class Replanned(Event):
    """After a failure all ranks go on with a lower plan, in the same processes.

    Attributes:
        plan: What they will capture now.
    """

    kind: Literal[EventKind.REPLANNED] = EventKind.REPLANNED
    plan: CapturePlan


class Replaced(Event):
    """All worker processes are replaced by fresh ones.

    Attributes:
        plan: What these start from; ``None`` when nothing was agreed on yet.
        advice: What a person can do about the cause.
    """

    kind: Literal[EventKind.REPLACED] = EventKind.REPLACED
    plan: CapturePlan | None = None
    advice: str = ""


class Sealed(Event):
    """All ranks hold the same graphs, and serve.

    Attributes:
        plan: What they hold.
    """

    kind: Literal[EventKind.SEALED] = EventKind.SEALED
    plan: CapturePlan | None = None


class Aborted(Event):
    """The session is given up.

    Attributes:
        advice: What a person can do about the cause.
    """

    kind: Literal[EventKind.ABORTED] = EventKind.ABORTED
    advice: str = ""


class Ready(Event):
    """The replica answers."""

    kind: Literal[EventKind.READY] = EventKind.READY


class StartFailed(Event):
    """The replica gives up: its engine did not start.

    Attributes:
        advice: What a person can do about it.
    """

    kind: Literal[EventKind.START_FAILED] = EventKind.START_FAILED
    advice: str = ""


class Recaptured(Event):
    """While it served, the group captured other sizes, which fit the load better.

    Attributes:
        before: Sizes before, ascending, in tokens.
        after: Sizes now.
    """

    kind: Literal[EventKind.RECAPTURED] = EventKind.RECAPTURED
    before: tuple[int, ...]
    after: tuple[int, ...]


class EngineDied(Event):
    """A worker process or the engine core ended while it served."""

    kind: Literal[EventKind.ENGINE_DIED] = EventKind.ENGINE_DIED


class EngineStalled(Event):
    """The ranks did not answer the heartbeat in time."""

    kind: Literal[EventKind.ENGINE_STALLED] = EventKind.ENGINE_STALLED


class RestartFailed(Event):
    """A fresh engine did not start."""

    kind: Literal[EventKind.RESTART_FAILED] = EventKind.RESTART_FAILED


class EngineRestarted(Event):
    """A fresh engine serves.

    Attributes:
        seconds: From the loss of the one before.
        copied_ranks: Ranks that copied their weights from the memory of their host.
    """

    kind: Literal[EventKind.ENGINE_RESTARTED] = EventKind.ENGINE_RESTARTED
    seconds: float = 0.0
    copied_ranks: int = 0


AnyEvent = Annotated[
    Started
    | PhaseEnded
    | Joined
    | Proposed
    | Agreed
    | Warming
    | CompilingKernels
    | Captured
    | Committed
    | CaptureFailed
    | Discarded
    | Replanned
    | Replaced
    | Sealed
    | Aborted
    | Ready
    | StartFailed
    | Recaptured
    | EngineDied
    | EngineStalled
    | RestartFailed
    | EngineRestarted,
    Field(discriminator="kind"),
]
"""An event, told apart by its ``kind``."""

EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)
"""Reads an event from JSON."""

OF_THE_ENGINE = frozenset(
    {EventKind.ENGINE_DIED, EventKind.ENGINE_STALLED, EventKind.RESTART_FAILED, EventKind.ENGINE_RESTARTED}
)
"""Kinds of events that are of the engine while it serves."""
