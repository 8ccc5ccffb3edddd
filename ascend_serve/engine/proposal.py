"""What this rank can do, told to the driver before anything is captured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.v1.worker.worker_base import WorkerBase

from ascend_serve.engine.fingerprint import fingerprint
from ascend_serve.engine.group_settings import GroupSettings
from ascend_serve.engine.layout import stream_layout
from ascend_serve.engine.npu import free_memory
from ascend_serve.engine.xlite import XliteOffer, is_loaded, offer_of
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import Adjustment, Proposal
from ascend_serve.graph.stream_costs import prior_budget, streams_per_full, streams_per_piecewise

if TYPE_CHECKING:
    from vllm.config import VllmConfig

    from ascend_serve.engine.runner import RunnerSeam


def make_proposal(worker: WorkerBase, seam: RunnerSeam, settings: GroupSettings) -> Proposal:
    """Describe what this rank can do, after vLLM has narrowed the mode to what its attention backends support."""
    layout = stream_layout(worker.vllm_config)
    loaded, offer = _loaded(worker, seam), _xlite(worker, settings)
    return Proposal(
        runtimes=_runtimes(loaded, settings.request.runtime, offer),
        mode=seam.mode,
        capture_sizes=_sizes(worker.vllm_config, settings),
        stream_budget=None if settings.stream_quota is None else prior_budget(layout, settings.stream_quota),
        streams_per_full=streams_per_full(layout),
        streams_per_piecewise=streams_per_piecewise(layout),
        free_memory=free_memory(),
        fingerprint=fingerprint(worker.vllm_config),
        refusals={RuntimeName.XLITE.value: offer.refusal} if offer.refusal else {},
        notes=_narrowing(settings, loaded, seam.mode),
        versions={RuntimeName.XLITE.value: offer.version} if offer.version else {},
        loaded=loaded,
    )


def _sizes(vllm_config: VllmConfig, settings: GroupSettings) -> tuple[int, ...]:
    """Sizes that vLLM pads to, ascending, in tokens; where Xlite leaves it without any, the ones to fall back to."""
    sizes = tuple(sorted(vllm_config.compilation_config.cudagraph_capture_sizes or ()))
    return settings.request.capture_sizes if not sizes and is_loaded(vllm_config) else sizes


def _loaded(worker: WorkerBase, seam: RunnerSeam) -> RuntimeName:
    if is_loaded(worker.vllm_config):
        return RuntimeName.XLITE
    return RuntimeName.EAGER if seam.mode is GraphMode.NONE else RuntimeName.ACLGRAPH


def _xlite(worker: WorkerBase, settings: GroupSettings) -> XliteOffer:
    if settings.request.runtime is not RuntimeName.XLITE:
        return XliteOffer()
    return offer_of(worker.vllm_config, group_rank(worker))


def group_rank(worker: WorkerBase) -> int:
    """The rank of ``worker`` in its capture group, over all engines of a data-parallel group."""
    return int(worker.vllm_config.parallel_config.data_parallel_index * worker.parallel_config.world_size + worker.rank)


def _runtimes(loaded: RuntimeName, wanted: RuntimeName, offer: XliteOffer) -> tuple[RuntimeName, ...]:
    """Best first. A rank that loaded without Xlite though it has it says so: the group decides."""
    if wanted is RuntimeName.EAGER or loaded is RuntimeName.EAGER:
        return (RuntimeName.EAGER,)
    graphs = (RuntimeName.ACLGRAPH, RuntimeName.EAGER)
    return (RuntimeName.XLITE, *graphs) if offer.version else graphs


def _narrowing(settings: GroupSettings, loaded: RuntimeName, mode: GraphMode) -> tuple[Adjustment, ...]:
    wanted = settings.request.mode
    if wanted is mode or settings.request.runtime is RuntimeName.EAGER or loaded is RuntimeName.XLITE:
        return ()
    reason = f"vLLM narrowed {wanted} to {mode}: what the weakest attention backend of the model supports"
    return (Adjustment("attention-backend", wanted.value, mode.value, reason),)
