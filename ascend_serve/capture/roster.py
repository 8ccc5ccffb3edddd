"""Who is in the capture group: the processes that joined and what each has captured, for reports and progress."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from ascend_serve.capture.messages import Join, Leave, Lost, Message
from ascend_serve.graph.keys import GraphKey


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
        instruction_set: The widest one that an emulated NPU computes with, such as ``amx``; empty for a real NPU.
        state: Where it is in the protocol: the last message it sent.
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


@dataclass(slots=True)
class _Member:
    """One worker process.

    Attributes:
        node: Name or address of its node.
        pid: Its process id.
        incarnation: How many processes this rank had before.
        instruction_set: What an emulated NPU computes with; empty for a real one.
        state: Where it is in the protocol: the last message it sent.
        captured: Seconds of warm-up and capture by graph.
        streams: Streams taken by graph, where the device tells.
        streams_left: Streams left after the last capture, where the device tells.
    """

    node: str
    pid: int
    incarnation: int
    instruction_set: str = ""
    state: str = "join"
    captured: dict[GraphKey, float] = field(default_factory=dict)
    streams: dict[GraphKey, int | None] = field(default_factory=dict)
    streams_left: int | None = None

    def state_of(self, rank: int, planned: Collection[GraphKey]) -> RankState:
        """What this process is as ``rank``, when the graphs of ``planned`` are wanted."""
        return RankState(
            rank,
            self.node,
            self.pid,
            self.incarnation,
            graphs=sum(key in planned for key in self.captured),
            capture_seconds=round(sum(self.captured.values()), 3),
            streams_used=self._streams_used(planned),
            streams_left=self.streams_left,
            instruction_set=self.instruction_set,
            state=self.state,
        )

    def _streams_used(self, planned: Collection[GraphKey]) -> int | None:
        taken = [streams for key, streams in self.streams.items() if key in planned]
        return None if None in taken else sum(streams or 0 for streams in taken)


class Roster:
    """The latest process of every rank."""

    def __init__(self) -> None:
        self._members: dict[int, _Member] = {}

    def note(self, message: Message) -> None:
        """Take note of a message; those of processes that have been replaced change nothing."""
        member = self._members.get(message.rank)
        if isinstance(message, Join) and (member is None or member.incarnation < message.incarnation):
            self._members[message.rank] = _Member(
                message.node, message.pid, message.incarnation, message.instruction_set
            )
            return
        if member is None or member.incarnation != message.incarnation:
            return
        member.state = "lost" if isinstance(message, Lost) else type(message).__name__.lower()
        if isinstance(message, Leave) and message.result.ok:
            member.captured[message.key] = message.result.seconds
            member.streams[message.key] = message.result.streams_used
            member.streams_left = message.result.streams_left

    def node(self, rank: int) -> str:
        """Node of a rank, empty when it has not joined."""
        return self._members[rank].node if rank in self._members else ""

    def states(self, planned: Collection[GraphKey]) -> tuple[RankState, ...]:
        """All ranks; ``planned`` are the graphs that are wanted now."""
        return tuple(member.state_of(rank, planned) for rank, member in sorted(self._members.items()))
