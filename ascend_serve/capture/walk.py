"""The walk through a plan: which graph the group stands at, and which ones all ranks hold."""

from __future__ import annotations

from collections.abc import Iterable

from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.plan import CapturePlan


class Walk:
    """How far the group is in its plan. Graphs that all ranks hold stay when a new plan has them.

    Args:
        held: Graphs that all ranks hold from the beginning.
    """

    def __init__(self, held: Iterable[GraphKey] = ()) -> None:
        self.plan: CapturePlan | None = None
        self._todo: list[GraphKey] = []
        self._held: dict[GraphKey, None] = dict.fromkeys(held)

    @property
    def key(self) -> GraphKey | None:
        """The graph that the group stands at, or ``None`` when there is none left."""
        return self._todo[-1] if self._todo else None

    @property
    def label(self) -> str | None:
        """The label of that graph."""
        return self._todo[-1].label if self._todo else None

    @property
    def kept(self) -> tuple[GraphKey, ...]:
        """Graphs of the plan that every rank holds, in the order of their capture."""
        return tuple(self._held)

    def holds(self, key: GraphKey) -> bool:
        """Whether every rank holds the graph ``key``."""
        return key in self._held

    def start(self, plan: CapturePlan) -> tuple[GraphKey, ...]:
        """Go on with ``plan``.

        Returns:
            Graphs that ranks let go: held ones that it does not want, and the one at which the plan before ended.
        """
        wanted = set(plan.keys)
        dropped = (*(key for key in self._held if key not in wanted), *self._todo[-1:])
        self.plan = plan
        self._held = {key: None for key in self._held if key in wanted}
        self._todo = [key for key in reversed(plan.keys) if key not in self._held]
        return dropped

    def commit(self) -> GraphKey:
        """Every rank holds the graph that the group stood at: step on. Returns that graph."""
        key = self._todo.pop()
        self._held[key] = None
        return key
