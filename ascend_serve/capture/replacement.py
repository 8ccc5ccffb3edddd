"""How often workers may be replaced, and which plan fresh ones start from: what keeps a session from a restart loop."""

from __future__ import annotations

from dataclasses import dataclass

from ascend_serve.graph.failure import Failure, Step
from ascend_serve.graph.ladder import eager_plan
from ascend_serve.graph.modes import OnFailure
from ascend_serve.graph.plan import CapturePlan

MAX_REPLACEMENTS = 3
"""Replacements in one session. The last one starts eager."""


@dataclass(slots=True)
class Replacements:
    """The budget of replacements of one session.

    Every replacement goes down the ladder, but for one: what a loss, or a failure before the agreement or in eager, was
    started with may be tried again once.

    Attributes:
        on_failure: How far the group may go down.
        used: Replacements so far.
        retried: Whether something has been tried again already.
    """

    on_failure: OnFailure
    used: int = 0
    retried: bool = False

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
            LookupError: There is nothing left to try.
        """
        if self.on_failure is OnFailure.FAIL:
            raise LookupError(failure.reason)
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

    def _retry(self, failure: Failure, plan: CapturePlan | None) -> CapturePlan | None:
        if self.retried:
            raise LookupError(failure.reason)
        self.retried = True
        return plan
