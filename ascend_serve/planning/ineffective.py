"""Options that have no effect once the rules are applied; those without effect in any case are `config.rules`'s."""

from __future__ import annotations

from collections.abc import Iterator

from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.situation import Situation
from ascend_serve.graph.stream_costs import StreamLayout


def without_effect(config: AscendServeConfig, situation: Situation, layout: StreamLayout) -> Iterator[str]:
    """One sentence for each option that was set and has no effect on this hardware, in this mode."""
    if config.hardware.hccl_op_expansion_mode is not None and not layout.communication_groups:
        yield "hardware.hccl_op_expansion_mode has no effect on the streams of one rank without collectives"
    narrowed = config.graph.mode is not GraphMode.NONE and config.graph.runtime is not RuntimeName.EAGER
    if situation.mode is not GraphMode.NONE or not narrowed:
        return
    if config.graph.capture_sizes is not None:
        yield "graph.capture_sizes has no effect: the effective mode is NONE"
        return
    yield from (
        f"graph.workload.{name} has no effect: nothing is captured"
        for name in ("histogram", "trace", "concurrency")
        if getattr(config.graph.workload, name) is not None
    )
