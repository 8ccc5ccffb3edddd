"""How often workers may be replaced, and which plan fresh ones start from: what keeps a session from a restart loop."""

from __future__ import annotations

from dataclasses import dataclass

from ascend_serve.graph.failure import Failure, Step
from ascend_serve.graph.ladder import eager_plan
from ascend_serve.graph.modes import OnFailure
from ascend_serve.graph.plan import CapturePlan

MAX_REPLACEMENTS = 3
"""Replacements in one session. The last one starts eager, so that no more than one capture is ever lost to it."""


@dataclass(slots=True)
class Replacements:
    """The budget of replacements of one session.

    Every replacement goes down the ladder, but for one: a loss that says nothing about the plan may be tried again once.

    Attributes:
        on_failure: How far the group may go down.
        used: Replacements so far.
        retried: Whether a plan has been tried again already.
    """

    on_failure: OnFailure
    used: int = 0
    retried: bool = False

    def allow(self) -> bool:
        """Whether workers may be replaced once more."""
        return self.on_failure is not OnFailure.FAIL and self.used < MAX_REPLACEMENTS

    def start(self, plan: CapturePlan | None, lower: CapturePlan | None, failure: Failure) -> CapturePlan | None:
        """The plan that fresh workers start from, counting the replacement.

        Args:
            plan: The plan that failed, or the ceiling when none was agreed on yet.
            lower: The next plan down the ladder, or ``None`` when the failure says nothing about the plan or there is
                none lower.
            failure: Why the workers are replaced.

        Raises:
            LookupError: There is nothing left to try.
        """
        last = self.used == MAX_REPLACEMENTS - 1
        self.used += 1
        if plan is not None and not plan.is_eager and last:
            return eager_plan(plan, f"{failure.reason}; it is the last replacement of workers")
        if lower is not None:
            return lower
        if not self.retried:
            self.retried = True
            return plan
        if plan is not None and not plan.is_eager and failure.treatment.step is Step.SAME:
            return eager_plan(plan, failure.reason)
        raise LookupError(failure.reason)
