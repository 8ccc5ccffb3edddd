"""Which plan comes next: what the session carries from one agreement and one failure to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ascend_serve.capture.ledger import StreamLedger
from ascend_serve.capture.replacement import Replacements
from ascend_serve.errors import AgreementError
from ascend_serve.graph.agreement import agree, common_sizes
from ascend_serve.graph.failure import Failure
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.ladder import describe, step_down
from ascend_serve.graph.plan import Adjustment, CapturePlan, GraphRequest, Proposal


class PlanSequence:
    """Agreements and steps down, with all that was learned on the way.

    Args:
        ranks: Number of ranks.
        request: What the configuration asks for.
        remembered: The plan that worked before: the first ceiling.
    """

    def __init__(self, ranks: int, request: GraphRequest, remembered: CapturePlan | None) -> None:
        self._request = request
        self._replacements = Replacements(request.on_failure)
        self._candidates: tuple[int, ...] = ()
        self._remembered = remembered
        self.ledger = StreamLedger(ranks)
        self.ceiling = remembered

    def agree(self, proposals: Mapping[int, Proposal], nodes: Mapping[int, str], epoch: int) -> CapturePlan:
        """The plan of a new incarnation, not above the ceiling.

        Raises:
            AgreementError: The ranks do not run the same thing.
        """
        told = [proposals[rank] for rank in range(len(proposals))]
        budgets = self.ledger.budgets
        plan = agree(self._request, told, epoch=epoch, ceiling=self.ceiling, budgets=budgets, nodes=nodes)
        self._candidates = common_sizes(self._request, told)
        if self.ceiling is None or self.ceiling is not self._remembered:
            return plan
        return _told_below(agree(self._request, told, epoch=epoch, budgets=budgets, nodes=nodes), plan)

    def learn(self, refusals: Mapping[int, tuple[GraphKey, int | None]]) -> None:
        """Let refusals, by rank with the graph and the streams left, teach the budget."""
        if refusals:
            self.ledger.learn(refusals)

    def step_down(self, plan: CapturePlan, failure: Failure) -> CapturePlan | None:
        """The next lower plan, or ``None`` when there is none or none is allowed."""
        return step_down(plan, failure, self._request, self._candidates, self.ledger.budgets)

    def start_over(self, plan: CapturePlan | None, failure: Failure) -> CapturePlan | None:
        """The plan that fresh workers start from; it becomes the ceiling.

        Raises:
            LookupError: There is nothing left to try.
        """
        lower = None if plan is None else self.step_down(plan, failure)
        self.ceiling = self._replacements.start(failure, plan, lower, self.ceiling)
        return self.ceiling

    def load_anew(self, plan: CapturePlan, reason: str) -> None:
        """Let fresh workers load for ``plan``; it becomes the ceiling.

        Raises:
            AgreementError: The replacements are used up.
        """
        try:
            self._replacements.count(reason)
        except LookupError as error:
            raise AgreementError(reason, "Restart; if it happens again, set graph.runtime=aclgraph.") from error
        self.ceiling = plan


def _told_below(free: CapturePlan, plan: CapturePlan) -> CapturePlan:
    """``plan``, which says so when it is below what would hold without memory and nothing else in it says why."""
    if describe(plan) == describe(free) or not set(plan.adjustments) <= set(free.adjustments):
        return plan
    reason = (
        "an earlier start of this deployment ended with no more, and kept no reason; "
        "`ascend-serve plan --forget` has the next one try again"
    )
    note = Adjustment("remembered-plan", describe(free), describe(plan), reason)
    return replace(plan, adjustments=(*plan.adjustments, note))
