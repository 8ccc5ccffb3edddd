"""The stream budget of one rank, and the best sizes that fit the budgets of all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from ascend_serve.graph.keys import GraphKey, capture_keys
from ascend_serve.graph.modes import GraphMode
from ascend_serve.graph.plan import GraphRequest, Proposal
from ascend_serve.graph.sizes import select_sizes


@dataclass(frozen=True, slots=True)
class StreamBudget:
    """Streams that one rank has for graphs, and what a graph takes of them.

    Attributes:
        total: Streams for all graphs together, or ``None`` when unknown.
        per_full: Streams of one ``FULL`` graph.
        per_piecewise: Streams of all pieces of one ``PIECEWISE`` size.
    """

    total: int | None = None
    per_full: int = 1
    per_piecewise: int = 1

    @classmethod
    def of(cls, proposal: Proposal) -> StreamBudget:
        """The budget that a rank proposed, before anything was measured."""
        return cls(proposal.stream_budget, proposal.streams_per_full, proposal.streams_per_piecewise)

    def price(self, kind: GraphMode) -> int:
        """Streams of one graph of ``kind``."""
        return self.per_full if kind is GraphMode.FULL else self.per_piecewise

    def cost(self, keys: Collection[GraphKey]) -> int:
        """Streams of all ``keys`` together."""
        return sum(self.price(key.kind) for key in keys)

    def fits(self, keys: Collection[GraphKey]) -> bool:
        """Whether ``keys`` fit, as far as is known."""
        return self.total is None or self.cost(keys) <= self.total

    def measured(self, kind: GraphMode, streams: int) -> StreamBudget:
        """With the measured price of one graph of ``kind``; the dearest one counts."""
        if kind is GraphMode.FULL:
            return replace(self, per_full=streams)
        return replace(self, per_piecewise=streams)

    def refused(self, kind: GraphMode, used: int, left: int | None) -> StreamBudget:
        """With what a refusal teaches: after ``used`` streams, one more graph of ``kind`` did not fit.

        Args:
            kind: Kind of the graph that was refused.
            used: Streams of the graphs that this rank holds.
            left: Streams that the device had left, or ``None`` when it did not tell: then all but one of its price
                may have been left, so the best plan is never missed, and a further refusal lowers the bound again.
        """
        most = self.price(kind) - 1
        bound = used + (most if left is None else min(left, most))
        return replace(self, total=bound if self.total is None else min(self.total, bound))


def plan_keys(request: GraphRequest, mode: GraphMode, sizes: Sequence[int]) -> tuple[GraphKey, ...]:
    """The graphs of ``mode`` for ``sizes``, in capture order."""
    return capture_keys(
        mode,
        sizes,
        max_num_seqs=request.max_num_seqs,
        decode_query_len=request.decode_query_len,
        lora_cases=request.lora_cases,
    )


def fit_sizes(
    request: GraphRequest,
    mode: GraphMode,
    candidates: Sequence[int],
    budgets: Collection[StreamBudget],
    at_most: int | None = None,
) -> tuple[int, ...]:
    """Choose the best sizes whose graphs fit every budget.

    Args:
        request: What the configuration asks for; its weights tell which sizes are best.
        mode: The mode whose graphs are captured.
        candidates: Sizes to choose from, ascending, in tokens.
        budgets: One per rank; equal ones count once.
        at_most: Upper bound of the number of sizes.

    Returns:
        Sizes, ascending; all candidates when they fit, none when not even one does.
    """
    limits = set(budgets)

    def fits(sizes: Sequence[int]) -> bool:
        keys = plan_keys(request, mode, sizes)
        return all(limit.fits(keys) for limit in limits)

    most = len(candidates) if at_most is None else min(at_most, len(candidates))
    if most == len(candidates) and fits(candidates):
        return tuple(candidates)
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if fits(select_sizes(candidates, middle, request.weights)):
            low = middle
        else:
            high = middle - 1
    return select_sizes(candidates, low, request.weights)
