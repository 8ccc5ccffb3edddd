"""A rule of graph mode: one row of a table, with a name, a source and a reason that a person gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from ascend_serve.errors import PlanError
from ascend_serve.graph.plan import Adjustment

S = TypeVar("S")


@dataclass(frozen=True)
class Rule(Generic[S]):
    """Changes one field of a situation, or refuses the situation.

    Attributes:
        name: Stable name, shown as ``Adjustment.rule``.
        source: Document or upstream function, with its version.
        when: Whether the rule applies.
        reason: One sentence for a person; ``{s.field}`` stands for a field of the situation.
        changes: The field that the rule changes; empty when it refuses.
        to: The field's new value.
        remedy: With a refusal: what to do instead.
    """

    name: str
    source: str
    when: Callable[[S], bool]
    reason: str
    changes: str = ""
    to: Callable[[S], Any] | None = None
    remedy: str = ""

    def explain(self, situation: S) -> str:
        """The reason, with the figures of ``situation``."""
        return self.reason.format(s=situation)


@dataclass(frozen=True, slots=True)
class Change:
    """One change that a rule made: which field, and what a person is told."""

    field: str
    adjustment: Adjustment


def apply_rules(rules: Iterable[Rule[S]], situation: S) -> tuple[S, tuple[Change, ...]]:
    """Apply ``rules`` in order; each sees what the ones before it changed.

    Returns:
        The situation that holds now, and the changes, oldest first.

    Raises:
        PlanError: A rule refuses the situation.
    """
    changes = []
    for rule in rules:
        if not rule.when(situation):
            continue
        if rule.to is None:
            raise PlanError(f"{rule.explain(situation)} [{rule.name}]", rule.remedy.format(s=situation))
        before, after = getattr(situation, rule.changes), rule.to(situation)
        if before != after:
            changes.append(
                Change(rule.changes, Adjustment(rule.name, str(before), str(after), rule.explain(situation)))
            )
            situation = replace(situation, **{rule.changes: after})  # type: ignore[type-var]
    return situation, tuple(changes)
