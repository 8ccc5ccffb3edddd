"""The stream ledger: what each rank's graphs took, and what a refusal teaches about its budget."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from ascend_serve.capture.messages import CaptureResult
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.modes import GraphMode
from ascend_serve.graph.plan import Proposal
from ascend_serve.graph.stream_budget import StreamBudget


class StreamLedger:
    """Streams of all ranks. Taking a note is O(1); :meth:`learn` goes over all ranks, once per refusal."""

    def __init__(self, ranks: int) -> None:
        self._budgets = [StreamBudget() for _ in range(ranks)]
        self._learned: set[int] = set()
        self._held: list[dict[GraphKey, int]] = [{} for _ in range(ranks)]
        self._prices: list[dict[GraphMode, int]] = [{} for _ in range(ranks)]
        self._left: list[int | None] = [None] * ranks

    @property
    def budgets(self) -> tuple[StreamBudget, ...]:
        """One per rank, with what has been learned."""
        return tuple(self._budgets)

    def propose(self, rank: int, proposal: Proposal) -> None:
        """Start a process of ``rank`` with nothing captured; what its device taught before still holds."""
        proposed = StreamBudget.of(proposal)
        learned = self._budgets[rank]
        self._held[rank], self._left[rank] = {}, None
        if rank in self._learned:
            totals = [total for total in (proposed.total, learned.total) if total is not None]
            proposed = replace(learned, total=min(totals, default=None))
        self._budgets[rank] = proposed

    def captured(self, rank: int, key: GraphKey, result: CaptureResult) -> None:
        """Note a graph that ``rank`` holds now."""
        if result.streams_used is not None:
            prices = self._prices[rank]
            prices[key.kind] = max(result.streams_used, prices.get(key.kind, 0))
        used = result.streams_used
        self._held[rank][key] = self._budgets[rank].price(key.kind) if used is None else used
        self._left[rank] = result.streams_left

    def keep(self, keys: Collection[GraphKey]) -> None:
        """Drop what is released: everything but ``keys``."""
        kept = set(keys)
        for rank, held in enumerate(self._held):
            self._held[rank] = {key: streams for key, streams in held.items() if key in kept}

    def learn(self, refusals: Mapping[int, tuple[GraphKey, int | None]]) -> None:
        """Replace estimates by measurements after one or more ranks were refused streams.

        Args:
            refusals: By rank: the graph that was refused, and the streams left then where the device told.
        """
        for rank, estimate in enumerate(self._budgets):
            budget = estimate
            for kind, price in self._prices[rank].items():
                budget = budget.measured(kind, price)
            used = sum(self._held[rank].values())
            if rank in refusals:
                key, left = refusals[rank]
                budget = budget.refused(key.kind, used, left)
            elif (left := self._left[rank]) is not None:
                budget = replace(budget, total=used + left)
            self._budgets[rank] = budget
        self._learned.update(range(len(self._budgets)))
