"""What this rank can do, told to the driver before anything is captured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.v1.worker.worker_base import WorkerBase

from ascend_serve.engine.device import free_memory
from ascend_serve.engine.fingerprint import fingerprint
from ascend_serve.engine.layout import stream_layout
from ascend_serve.engine.settings import EngineSettings
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import Adjustment, Proposal
from ascend_serve.graph.streams import prior_budget, streams_per_full, streams_per_piecewise

if TYPE_CHECKING:
    from ascend_serve.engine.runner import RunnerSeam


def make_proposal(worker: WorkerBase, seam: RunnerSeam, settings: EngineSettings) -> Proposal:
    """Describe what this rank can do, after vLLM has narrowed the mode to what its attention backends support."""
    layout = stream_layout(worker.vllm_config)
    return Proposal(
        runtimes=_runtimes(seam.mode, settings.runtime),
        mode=seam.mode,
        capture_sizes=seam.capture_sizes,
        stream_budget=None if settings.stream_quota is None else prior_budget(layout, settings.stream_quota),
        streams_per_full=streams_per_full(layout),
        streams_per_piecewise=streams_per_piecewise(layout),
        free_memory=free_memory(),
        fingerprint=fingerprint(worker.vllm_config),
        notes=_narrowing(settings.mode, seam.mode),
    )


def _runtimes(mode: GraphMode, wanted: RuntimeName) -> tuple[RuntimeName, ...]:
    if wanted is RuntimeName.EAGER or mode is GraphMode.NONE:
        return (RuntimeName.EAGER,)
    return (RuntimeName.ACLGRAPH, RuntimeName.EAGER)


def _narrowing(wanted: GraphMode, mode: GraphMode) -> tuple[Adjustment, ...]:
    if wanted is mode:
        return ()
    reason = f"vLLM narrowed {wanted} to {mode}: what the weakest attention backend of the model supports"
    return (Adjustment("attention-backend", wanted.value, mode.value, reason),)
