"""What this rank can do, told to the driver before anything is captured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.v1.worker.worker_base import WorkerBase

from ascend_serve.engine.fingerprint import fingerprint
from ascend_serve.engine.group_settings import GroupSettings
from ascend_serve.engine.layout import stream_layout
from ascend_serve.engine.npu import free_memory
from ascend_serve.engine.runtimes.loading import loaded_for, offer_of
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import Adjustment, Proposal
from ascend_serve.graph.runtimes import RUNTIMES, downwards
from ascend_serve.graph.stream_costs import prior_budget, streams_per_full, streams_per_piecewise

if TYPE_CHECKING:
    from vllm.config import VllmConfig

    from ascend_serve.engine.runner import RunnerSeam


def make_proposal(worker: WorkerBase, seam: RunnerSeam, settings: GroupSettings) -> Proposal:
    """Describe what this rank can do, after vLLM has narrowed the mode to what its attention backends support."""
    layout = stream_layout(worker.vllm_config)
    loaded, rank = _loaded(worker, seam), group_rank(worker)
    # A rank that loaded without a runtime though it has it says so: the group decides.
    offers = {name: offer_of(name, worker.vllm_config, rank) for name in downwards(settings.request.runtime)}
    able = tuple(name for name, offer in offers.items() if not offer.refusal)
    return Proposal(
        runtimes=(RuntimeName.EAGER,) if loaded is RuntimeName.EAGER else able,
        mode=seam.mode,
        capture_sizes=_sizes(worker.vllm_config, settings, loaded),
        stream_budget=None if settings.stream_quota is None else prior_budget(layout, settings.stream_quota),
        streams_per_full=streams_per_full(layout),
        streams_per_piecewise=streams_per_piecewise(layout),
        free_memory=free_memory(),
        fingerprint=fingerprint(worker.vllm_config),
        refusals={name.value: offer.refusal for name, offer in offers.items() if offer.refusal},
        notes=(*_narrowing(settings, loaded, seam.mode), *seam.notes()),
        versions={name.value: offer.version for name, offer in offers.items() if offer.version},
        loaded=loaded,
    )


def _sizes(vllm_config: VllmConfig, settings: GroupSettings, loaded: RuntimeName) -> tuple[int, ...]:
    """Sizes that vLLM pads to, ascending, in tokens; where a runtime left it none, the ones to fall back to."""
    sizes = tuple(sorted(vllm_config.compilation_config.cudagraph_capture_sizes or ()))
    return settings.request.capture_sizes if not sizes and RUNTIMES[loaded].brings_mode else sizes


def _loaded(worker: WorkerBase, seam: RunnerSeam) -> RuntimeName:
    without = RuntimeName.EAGER if seam.mode is GraphMode.NONE else RuntimeName.ACLGRAPH
    return loaded_for(worker.vllm_config) or without


def group_rank(worker: WorkerBase) -> int:
    """The rank of ``worker`` in its capture group, over all engines of a data-parallel group."""
    return int(worker.vllm_config.parallel_config.data_parallel_index * worker.parallel_config.world_size + worker.rank)


def _narrowing(settings: GroupSettings, loaded: RuntimeName, mode: GraphMode) -> tuple[Adjustment, ...]:
    wanted = settings.request.mode
    if wanted is mode or settings.request.runtime is RuntimeName.EAGER or RUNTIMES[loaded].brings_mode:
        return ()
    reason = f"vLLM narrowed {wanted} to {mode}: what the weakest attention backend of the model supports"
    return (Adjustment("attention-backend", wanted.value, mode.value, reason),)
