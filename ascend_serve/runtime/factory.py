"""From the name of a runtime in a plan to the runtime."""

from __future__ import annotations

from ascend_serve.graph.modes import RuntimeName
from ascend_serve.runtime.aclgraph import ACLGraphRuntime
from ascend_serve.runtime.base import GraphHost, GraphRuntime
from ascend_serve.runtime.eager import EagerRuntime
from ascend_serve.runtime.xlite import XliteRuntime

_RUNTIMES: dict[RuntimeName, type[GraphRuntime]] = {
    runtime.name: runtime for runtime in (ACLGraphRuntime, EagerRuntime, XliteRuntime)
}


def create_runtime(name: RuntimeName, host: GraphHost) -> GraphRuntime:
    """Make the runtime called ``name`` on ``host``."""
    return _RUNTIMES[name](host)
