"""Two faults in one start: every pair, what a group without processes makes of it, and what must come of it.

A fault is a kind of error in a phase, at a capture size where there is one, on a rank, in an incarnation. The second of
two strikes in the incarnation of the first, or in the one that takes its place. Without the first there would be none,
so these are all of any two incarnations in which both can strike.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

from ascend_serve.capture.messages import Phase, VerdictKind
from ascend_serve.capture.outcome import IncarnationOutcome, OutcomeKind
from ascend_serve.capture.session import DEATH_SECONDS
from ascend_serve.graph.ladder import describe, rung
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import GraphRequest
from tests.unit.capture.simulated import DEADLINES, Fault, Group

SIZES = (1, 4, 16)
"""Captured largest first: 16 is the first size, 4 is in the middle, 1 is the last."""

ASKED = GraphRequest(RuntimeName.ACLGRAPH, GraphMode.FULL_DECODE_ONLY, SIZES)
RANKS = 2

RAISED = ("stream_exhausted", "old_hdk", "not_capturable", "out_of_memory", "device_fault", "unknown")
ERRORS = (*RAISED, "hang", "crash", "slow")
REFUSED = ("stream_exhausted", "old_hdk")
"""What the device reports before it records anything."""

BEFORE_THE_AGREEMENT = (Phase.JOIN, Phase.PROPOSE)
_PLACES: tuple[tuple[Phase, int | None], ...] = (
    *((phase, None) for phase in BEFORE_THE_AGREEMENT),
    *itertools.product((Phase.WARMUP, Phase.CAPTURE), SIZES),
    (Phase.SEAL, None),
    (Phase.SERVE, None),
)
_TALK_SECONDS = 1.0
"""More than all messages of one start take."""
_PATIENCE = {
    Phase.JOIN: DEADLINES.join,
    Phase.PROPOSE: DEADLINES.propose,
    Phase.WARMUP: DEADLINES.capture,
    Phase.CAPTURE: DEADLINES.capture,
    Phase.SEAL: DEADLINES.seal,
    # Of a rank that hangs in a step the executor is told.
    Phase.SERVE: 0.0,
}
"""Seconds for which the others wait for a rank that hangs."""


def faults(incarnation: int) -> tuple[Fault, ...]:
    """All that can happen once in ``incarnation``."""
    return tuple(
        Fault(rank, phase, error, size, recorded=error not in REFUSED, incarnation=incarnation)
        for phase, size in _PLACES
        for error in (*ERRORS, *(("wrong",) if phase is Phase.SEAL else ()))
        for rank in range(RANKS)
    )


def name(fault: Fault) -> str:
    """A readable id."""
    at = "" if fault.size is None else f"-{fault.size}"
    return f"{fault.error}-in-{fault.phase.value}{at}-on-rank-{fault.rank}-of-{fault.incarnation}"


def end_in_words(outcome: IncarnationOutcome) -> str:
    """How a start ended: the plan that is served, or none, and the incarnation with which it did."""
    plan = outcome.plan if outcome.kind is OutcomeKind.SEALED else None
    return f"{describe(plan) if plan else 'none'}, incarnation {outcome.incarnation}"


@dataclass(frozen=True)
class Start:
    """A start of a group of two ranks, and what comes of it.

    Attributes:
        faults: What is to happen.
    """

    faults: tuple[Fault, ...]

    @cached_property
    def group(self) -> Group:
        """The group, at its end."""
        group = Group(ASKED, RANKS, list(self.faults))
        group.run()
        return group

    @property
    def outcome(self) -> IncarnationOutcome:
        """How its last incarnation ended."""
        return self.group.outcomes[-1]

    @property
    def struck(self) -> tuple[Fault, ...]:
        """The faults that did happen, in their order."""
        return tuple(self.group.struck)

    @property
    def end(self) -> str:
        """The end in words."""
        return end_in_words(self.outcome)

    def problems(self) -> Iterator[str]:
        """What must not be: a mixed group, a loop, an end without a cause, a wait without need, more than is left."""
        is_served = self.outcome.kind is OutcomeKind.SEALED
        if is_served == ends_the_start(self.struck):
            yield "it goes on" if is_served else "it is given up"
        yield from self._problems_of_what_is_served() if is_served else self._problems_of_the_end()
        if self.outcome.incarnation > sum(fault.error != "slow" for fault in self.struck):
            yield "workers were replaced more often than something struck"
        if self.group.now > self._most_seconds:
            yield f"it took {self.group.now:.0f} s"

    def _problems_of_what_is_served(self) -> Iterator[str]:
        plan, members = self.outcome.plan, self.group.members
        if plan is None or {member.ended for member in members} != {VerdictKind.SEALED}:
            yield "not all ranks are sealed"
        elif any(member.held != set(plan.keys) for member in members):
            yield f"ranks hold {[sorted(key.label for key in member.held) for member in members]}"
        elif any(rung(plan) > rung(left) for fault in self._told if (left := alone(fault).outcome.plan) is not None):
            yield f"{describe(plan)} is more than one of the faults leaves by itself"

    @property
    def _told(self) -> Iterator[Fault]:
        """The faults that became known: of a rank that hangs nothing does where something else ends its process."""
        for number, fault in enumerate(self.struck):
            others = {each.incarnation for each in (*self.struck[:number], *self.struck[number + 1 :])}
            if fault.error != "hang" or fault.incarnation not in others:
                yield fault

    def _problems_of_the_end(self) -> Iterator[str]:
        reason, last = self.outcome.reason, self.struck[-1]
        if not self.outcome.remedy or not reason.startswith("rank") or f" in {last.phase.value}" not in reason:
            yield f"its reason is {reason!r}, its remedy {self.outcome.remedy!r}"

    @property
    def _most_seconds(self) -> float:
        """Each rank that hangs costs one wait, each word of a death that does not come another."""
        waits = [_PATIENCE[fault.phase] for fault in self.struck if fault.error == "hang"]
        return sum(waits) + len(self.struck) * (DEATH_SECONDS + _TALK_SECONDS) + _TALK_SECONDS


@cache
def alone(fault: Fault) -> Start:
    """The start in which nothing strikes but ``fault``, in the first incarnation."""
    return Start((replace(fault, incarnation=0),))


def ends_the_start(struck: Sequence[Fault]) -> bool:
    """Whether two faults leave nothing to try.

    What was started may be tried again once, after a death or after a failure before the agreement. So after one of
    these, fresh workers may not fail before the agreement, nor die the same death outside of graphs. An engine that has
    served before is followed by one with a session of its own.
    """
    if len(struck) < 2:
        return False
    first, second = struck
    if first.incarnation == second.incarnation or first.phase is Phase.SERVE or second.error == "slow":
        return False
    is_retried = first.error == "crash" or first.phase in BEFORE_THE_AGREEMENT
    is_same_death = first.error == second.error == "crash" and first.phase is second.phase is Phase.SEAL
    return is_retried and (second.phase in BEFORE_THE_AGREEMENT or is_same_death)


def pairs(first: Fault) -> Iterator[Start]:
    """All starts in which another fault comes beside or after ``first``, which strikes in incarnation 0."""
    beside = (other for other in faults(0) if name(other) > name(first))
    after = faults(1) if alone(first).outcome.incarnation > 0 else ()
    for second in (*beside, *after):
        yield Start((first, second))
