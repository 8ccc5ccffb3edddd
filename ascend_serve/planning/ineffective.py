"""Options that were set and have no effect once the rules are applied; those of the configuration alone are its own."""

from __future__ import annotations

from collections.abc import Iterator

from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.rules import Situation
from ascend_serve.graph.streams import StreamLayout


def without_effect(config: AscendServeConfig, situation: Situation, layout: StreamLayout) -> Iterator[str]:
    """One sentence for each option that was set and has no effect on this hardware, in this mode."""
    hardware, workload = config.hardware, config.graph.workload
    if config.emulated.npus:
        names = [
            name for name in ("soc", "nodes", "npus_per_node", "stream_quota") if name in hardware.model_fields_set
        ]
        yield from (f"hardware.{name} has no effect with emulated.npus: {config.emulated.npus}" for name in names)
    if hardware.hccl_op_expansion_mode is not None and not layout.communication_groups:
        yield "hardware.hccl_op_expansion_mode has no effect on the streams of one rank without collectives"
    if "step_ms" in workload.model_fields_set and workload.trace is None:
        yield "graph.workload.step_ms has no effect without graph.workload.trace"
    if situation.mode is not GraphMode.NONE:
        return
    narrowed = config.graph.mode is not GraphMode.NONE and config.graph.runtime is not RuntimeName.EAGER
    if narrowed and config.graph.capture_sizes is not None:
        yield "graph.capture_sizes has no effect: the effective mode is NONE"
    yield from (
        f"graph.workload.{name} has no effect: nothing is captured"
        for name in ("histogram", "trace", "concurrency")
        if getattr(workload, name) is not None
    )
