"""The rank's side of the protocol: which graph to capture next, and what to tell the driver."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Protocol

from ascend_serve.capture.messages import (
    Arrive,
    CaptureResult,
    Compiling,
    Failed,
    Join,
    Leave,
    Phase,
    Propose,
    Question,
    Seal,
    Verdict,
    VerdictKind,
)
from ascend_serve.errors import CaptureError
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.plan import CapturePlan, Proposal


class DriverLink(Protocol):
    """A line to the driver that blocks until the verdict is there."""

    def ask(self, question: Question) -> Verdict: ...

    def tell(self, message: Compiling) -> None: ...


class Participant:
    """Walks one rank through the session.

    A new plan is kept until it is taken: inside vLLM's own capture loop nothing can be done about it, the loop has to
    run to its end first.

    Args:
        link: The line to the driver.
        rank: This rank, numbered over the whole capture group.
        incarnation: How many worker processes this rank had before.
        node: Name or address of this node, for messages.
        pid: Process id of this worker.
        instruction_set: What an emulated NPU computes with; empty for a real one.
    """

    def __init__(
        self, link: DriverLink, rank: int, incarnation: int, node: str, pid: int, *, instruction_set: str = ""
    ) -> None:
        self._link = link
        self.rank = rank
        self.incarnation = incarnation
        self.node = node
        self.pid = pid
        self.instruction_set = instruction_set
        self._plan: CapturePlan | None = None
        self._kept: frozenset[GraphKey] = frozenset()
        self._ended = False
        self._changed = False

    @property
    def plan(self) -> CapturePlan:
        """The plan that holds now.

        Raises:
            CaptureError: No plan has been agreed on yet.
        """
        if self._plan is None:
            raise CaptureError(f"Rank {self.rank} has no capture plan yet")
        return self._plan

    @property
    def has_ended(self) -> bool:
        """Whether the session is over for this process, without a seal."""
        return self._ended

    @property
    def has_new_plan(self) -> bool:
        """Whether a plan waits to be taken."""
        return self._changed

    def join(self) -> None:
        """Meet the other ranks."""
        self._note(self._link.ask(Join(self.rank, self.incarnation, self.node, self.pid, self.instruction_set)))

    def propose(self, proposal: Proposal) -> None:
        """Tell what this rank can do and get the plan of the group."""
        self._note(self._link.ask(Propose(self.rank, self.incarnation, proposal)))

    def wants(self, key: GraphKey) -> bool:
        """Whether ``key`` is to be captured now: part of the plan, and the plan has not changed under vLLM's loop."""
        return not self._ended and not self._changed and key in self.plan.keys

    def arrive(self, key: GraphKey) -> bool:
        """Wait for all ranks before the warm-up of ``key``; whether to go on with it."""
        verdict = self._link.ask(Arrive(self.rank, self.incarnation, self.plan.epoch, key))
        self._note(verdict)
        return verdict.kind is VerdictKind.GO

    def leave(self, key: GraphKey, result: CaptureResult) -> bool:
        """Tell how ``key`` went; whether all ranks hold it now."""
        verdict = self._link.ask(Leave(self.rank, self.incarnation, self.plan.epoch, key, result))
        self._note(verdict)
        return verdict.kind is VerdictKind.COMMIT

    def seal(self, held: Iterable[GraphKey], canary_ok: bool) -> bool:
        """Compare what all ranks hold; whether the group is sealed."""
        message = Seal(self.rank, self.incarnation, self.plan.epoch, digest(held), canary_ok)
        verdict = self._link.ask(message)
        self._note(verdict)
        return verdict.kind is VerdictKind.SEALED

    def fail(self, phase: Phase, error: BaseException) -> None:
        """Tell that this rank cannot go on, outside of the capture of a graph."""
        message = Failed(self.rank, self.incarnation, phase, type(error).__name__, str(error))
        self._note(self._link.ask(message))

    def tell_compiling(self, directory: str) -> None:
        """Tell that static kernels compile in ``directory``, so that people know what takes so long."""
        self._link.tell(Compiling(self.rank, self.incarnation, directory))

    def take_change(self) -> tuple[CapturePlan, frozenset[GraphKey]]:
        """The plan to apply next, and the graphs that stay; later verdicts count as new changes."""
        self._changed = False
        return self.plan, self._kept

    def _note(self, verdict: Verdict) -> None:
        if verdict.kind in (VerdictKind.REPLACE, VerdictKind.ABORT):
            self._ended = True
        if verdict.kind is VerdictKind.PLAN:
            self._plan, self._kept = verdict.plan, frozenset(verdict.kept)
            self._changed = True


def digest(keys: Iterable[GraphKey]) -> str:
    """A digest of the graphs that a rank holds, equal on all ranks exactly when the sets are equal."""
    lines = sorted(repr(key) for key in keys)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
