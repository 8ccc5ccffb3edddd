"""ACLGraph: graphs captured at run time, one for each key."""

from __future__ import annotations

from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.runtimes.traits import RuntimeTraits

ACLGRAPH = RuntimeTraits(
    "ACLGraph",
    captures=True,
    modes=frozenset(GraphMode) - {GraphMode.NONE},
    lower=RuntimeName.EAGER,
)
