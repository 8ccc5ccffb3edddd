"""Who is in the capture group: the processes that joined and what each has captured, for reports and progress."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from ascend_serve.events import Captured, CaptureFailed, Discarded, Event, EventKind, Joined, Sealed
from ascend_serve.graph.failure import FailureKind

LOST = "lost"
"""The state of a rank whose process ended."""


@dataclass(frozen=True, slots=True)
class RankState:
    """One worker process at one moment.

    Attributes:
        rank: Number in the capture group.
        node: Name or address of its node.
        pid: Its process.
        incarnation: How many processes this rank had before.
        graphs: Graphs of the plan that it holds.
        capture_seconds: Time it spent on warm-up and capture.
        streams_used: Device streams that its graphs take, where the device tells.
        streams_left: Device streams left, where the device tells.
        graph_memory: Bytes of the device's memory that its captures took, where there is a device.
        instruction_set: The widest one that an emulated NPU computes with, such as ``amx``; empty for a real NPU.
        state: The kind of the last event of its own, ``sealed`` once all ranks are, ``lost`` when its process ended.
    """

    rank: int
    node: str = ""
    pid: int = 0
    incarnation: int = 0
    graphs: int = 0
    capture_seconds: float = 0.0
    streams_used: int | None = None
    streams_left: int | None = None
    instruction_set: str = ""
    state: str = ""
    graph_memory: int | None = None


@dataclass(slots=True)
class Member:
    """One worker process.

    Attributes:
        node: Name or address of its node.
        pid: Its process id.
        incarnation: How many processes this rank had before.
        instruction_set: What an emulated NPU computes with; empty for a real one.
        state: As `RankState.state`.
        graphs: Labels of the graphs that it holds, with the streams they take where the device tells.
        seconds: Seconds of warm-up and capture by graph.
        streams_left: Streams left after the last capture, where the device tells.
        memory: Bytes of the device's memory that each capture took, where there is a device.
        failed: Labels of graphs that failed here.
    """

    node: str
    pid: int
    incarnation: int
    instruction_set: str = ""
    state: str = EventKind.JOINED
    graphs: dict[str, int | None] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    streams_left: int | None = None
    memory: dict[str, int | None] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def state_of(self, rank: int, planned: Collection[str]) -> RankState:
        """What this process is as ``rank``, when the graphs of ``planned`` are wanted."""
        taken = [streams for label, streams in self.graphs.items() if label in planned]
        return RankState(
            rank,
            self.node,
            self.pid,
            self.incarnation,
            graphs=len(taken),
            capture_seconds=round(sum(self.seconds.values()), 3),
            streams_used=_sum(taken),
            streams_left=self.streams_left,
            graph_memory=_sum(memory for label, memory in self.memory.items() if label in self.graphs),
            instruction_set=self.instruction_set,
            state=str(self.state),
        )


def _sum(parts: Iterable[int | None]) -> int | None:
    """The sum of what is known for all."""
    known = list(parts)
    return None if None in known else sum(part or 0 for part in known)


class Roster:
    """The latest process of every rank.

    Attributes:
        members: The processes, by rank.
    """

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}

    def note(self, event: Event) -> None:
        """Take note of an event; those of processes that have been replaced change nothing."""
        match event:
            case Joined():
                self._join(event)
            case Discarded(keys=keys):
                for member in self.members.values():
                    member.graphs = {label: used for label, used in member.graphs.items() if label not in keys}
            case Sealed():
                for member in self.members.values():
                    member.state = EventKind.SEALED
            case Event(rank=int(rank)) if rank in self.members:
                if self.members[rank].incarnation == event.incarnation:
                    self._note_of(self.members[rank], event)

    def _join(self, event: Joined) -> None:
        member = self.members.get(event.rank)
        if member is None or member.incarnation < event.incarnation:
            self.members[event.rank] = Member(event.node, event.pid, event.incarnation, event.instruction_set)
        elif member.incarnation == event.incarnation:
            member.state = EventKind.JOINED

    def _note_of(self, member: Member, event: Event) -> None:
        member.state = event.kind
        if isinstance(event, Captured):
            member.graphs[event.key] = event.streams_used
            member.seconds[event.key] = event.seconds
            member.streams_left = event.streams_left
            member.memory[event.key] = event.memory
            member.failed.discard(event.key)
        elif isinstance(event, CaptureFailed):
            if event.key is not None:
                member.failed.add(event.key)
            if event.failure is FailureKind.LOST:
                member.state = LOST

    def node(self, rank: int) -> str:
        """Node of a rank, empty when it has not joined."""
        return self.members[rank].node if rank in self.members else ""

    def states(self, planned: Collection[str]) -> tuple[RankState, ...]:
        """All ranks; ``planned`` are labels of the graphs that are wanted now."""
        return tuple(member.state_of(rank, planned) for rank, member in sorted(self.members.items()))
