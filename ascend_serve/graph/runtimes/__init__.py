"""All graph runtimes, as decisions see them; what a rank does with each is in ``engine/runtimes/``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from ascend_serve.graph.modes import RuntimeName
from ascend_serve.graph.rule import Rule
from ascend_serve.graph.runtimes.aclgraph import ACLGRAPH
from ascend_serve.graph.runtimes.eager import EAGER
from ascend_serve.graph.runtimes.traits import RuntimeTraits
from ascend_serve.graph.runtimes.xlite import XLITE
from ascend_serve.graph.situation import Situation

RUNTIMES: Mapping[RuntimeName, RuntimeTraits] = MappingProxyType(
    {
        RuntimeName.EAGER: EAGER,
        RuntimeName.ACLGRAPH: ACLGRAPH,
        RuntimeName.XLITE: XLITE,
    }
)
"""From the plainest to the most specialised."""


def downwards(name: RuntimeName | None) -> Iterator[RuntimeName]:
    """A runtime and those that the group goes on with, one after the other, where it cannot run."""
    while name is not None:
        yield name
        name = RUNTIMES[name].lower


def runtime_rules() -> Iterator[Rule[Situation]]:
    """The rules of all runtimes, those of the most specialised first."""
    for name, traits in reversed(tuple(RUNTIMES.items())):
        yield from (_while_it_holds(name, rule) for rule in traits.rules)


def _while_it_holds(name: RuntimeName, rule: Rule[Situation]) -> Rule[Situation]:
    return replace(rule, when=lambda s: s.runtime is name and rule.when(s))
