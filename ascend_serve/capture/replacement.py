"""How often workers may be replaced, and which plan fresh ones start from: what keeps a session from a restart loop."""

from __future__ import annotations

from dataclasses import dataclass, field

from ascend_serve.graph.failure import Failure, Step
from ascend_serve.graph.ladder import eager_plan
from ascend_serve.graph.modes import OnFailure
from ascend_serve.graph.plan import CapturePlan
from ascend_serve.graph.runtimes import RUNTIMES

MAX_REPLACEMENTS = 3
"""Replacements in one session. The last one starts eager."""


@dataclass(slots=True)
class Replacements:
    """The budget of replacements of one session.

    Every replacement goes down the ladder, but for one: what a loss, or a failure before the agreement or in eager, was
    started with may be tried again once.

    Two kinds of failures end the session instead, since nothing that could be started is spared them:

    - The host is the cause (no compiler, no shared memory, ...), and it struck outside of a graph: at once.
    - The same death at the same place for the second time. Deaths are the same when their cause is: the signal, the
      exit code. Which rank dies first is chance, and does not count. Inside of a graph, or with a runtime that captures
      nothing, a place is no place: a lower plan does without, so the ladder goes on. All places outside of graphs are
      two: before the agreement, and after it (the canary and the samplers run under every plan, for one that captures
      before the first graph, for an eager one in the seal).

    Attributes:
        on_failure: How far the group may go down.
        used: Replacements so far.
        retried: Whether something has been tried again already.
        deaths: Causes of deaths that no plan is spared, each with whether the ranks had agreed by then.
    """

    on_failure: OnFailure
    used: int = 0
    retried: bool = False
    deaths: set[tuple[str, bool]] = field(default_factory=set)

    def start(
        self, failure: Failure, plan: CapturePlan | None, lower: CapturePlan | None, ceiling: CapturePlan | None
    ) -> CapturePlan | None:
        """The plan that fresh workers start from, counting the replacement.

        Args:
            failure: Why the workers are replaced.
            plan: The plan that failed, or ``None`` before the agreement.
            lower: The next plan down the ladder.
            ceiling: What the agreement could not exceed.

        Returns:
            The new ceiling; ``None`` when there was none and none is needed.

        Raises:
            LookupError: There is nothing left to try; with the reason.
        """
        if self.on_failure is OnFailure.FAIL or failure.is_final:
            raise LookupError(failure.reason)
        self._note_death(failure, plan)
        self.count(failure.reason)
        if plan is None or plan.is_eager:
            return self._retry(failure, plan or ceiling)
        if self.used == MAX_REPLACEMENTS:
            return eager_plan(plan, failure.reason)
        if failure.treatment.step is Step.SAME and self.on_failure is OnFailure.DEGRADE and not self.retried:
            return self._retry(failure, plan)
        return lower or eager_plan(plan, failure.reason)

    def count(self, reason: str) -> None:
        """Count one replacement.

        Raises:
            LookupError: They are used up.
        """
        if self.used == MAX_REPLACEMENTS:
            raise LookupError(reason)
        self.used += 1

    def _note_death(self, failure: Failure, plan: CapturePlan | None) -> None:
        goes_on = plan is not None and not plan.is_eager and not RUNTIMES[plan.runtime].captures
        is_spared = failure.key is not None or goes_on
        if failure.death is None or is_spared:
            return
        death = (failure.death.cause, plan is not None)
        if death in self.deaths:
            raise LookupError(f"{failure.reason}, as before the workers were replaced")
        self.deaths.add(death)

    def _retry(self, failure: Failure, plan: CapturePlan | None) -> CapturePlan | None:
        if self.retried:
            raise LookupError(failure.reason)
        self.retried = True
        return plan
