"""Which runtime models are loaded for: ranks are asked before any model is, because a group cannot load for two."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from vllm.v1.executor.ray_utils import get_bundles_sorted_by_node, initialize_ray_cluster

from ascend_serve.engine.graph_config import set_graphs
from ascend_serve.engine.npu import is_emulated
from ascend_serve.engine.runtimes.base import GraphRuntime, RuntimeOffer
from ascend_serve.engine.runtimes.factory import IMPLEMENTATIONS
from ascend_serve.graph.ladder import RUNTIMES_UPWARDS
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import CapturePlan, GraphRequest
from ascend_serve.graph.runtimes import RUNTIMES, downwards

if TYPE_CHECKING:
    from vllm.config import VllmConfig

logger = logging.getLogger(__name__)

Offers = Mapping[RuntimeName, Sequence[RuntimeOffer]]
"""What the ranks of an engine offer, by runtime, one for each rank."""


def loaded_for(vllm_config: VllmConfig) -> RuntimeName | None:
    """The runtime that models are loaded for; ``None`` where that is none in particular."""
    return next((name for name, runtime in IMPLEMENTATIONS.items() if runtime.is_loaded(vllm_config)), None)


def offer_of(name: RuntimeName, vllm_config: VllmConfig, rank: int) -> RuntimeOffer:
    """What this process, of ``rank``, can offer."""
    runtime = IMPLEMENTATIONS[name]
    refusal = runtime.refusal(vllm_config)
    if refusal:
        return RuntimeOffer(refusal=refusal)
    return runtime.emulated_offer(vllm_config, rank) if is_emulated() else runtime.offer()


def ask_ranks(vllm_config: VllmConfig, first_rank: int) -> Offers:
    """Ask the node of every rank of this engine for the runtimes that models would be loaded for.

    Args:
        vllm_config: vLLM's configuration.
        first_rank: Number of this engine's first rank in the capture group.
    """
    return {
        name: _ask(IMPLEMENTATIONS[name], vllm_config, first_rank)
        for name in downwards(loaded_for(vllm_config))
        if RUNTIMES[name].loaded_by
    }


def _ask(runtime: GraphRuntime, vllm_config: VllmConfig, first_rank: int) -> Sequence[RuntimeOffer]:
    world_size = vllm_config.parallel_config.world_size
    if is_emulated() or runtime.refusal(vllm_config):
        return [offer_of(runtime.name, vllm_config, first_rank + rank) for rank in range(world_size)]
    # vLLM before 0.33.0 wants a device on the node of the engine core.
    can_do_without = "require_gpu_on_driver" in inspect.signature(initialize_ray_cluster).parameters
    options = {"require_gpu_on_driver": False} if can_do_without else {}
    initialize_ray_cluster(vllm_config.parallel_config, **options)
    placement_group = vllm_config.parallel_config.placement_group
    probe = ray.remote(num_cpus=0, max_retries=0)(type(runtime).offer)
    answers = [
        probe.options(scheduling_strategy=PlacementGroupSchedulingStrategy(placement_group, bundle)).remote(runtime)
        for bundle, _, _ in get_bundles_sorted_by_node(placement_group)[:world_size]
    ]
    return list(ray.get(answers))


def settle_runtime(
    vllm_config: VllmConfig, request: GraphRequest, offers: Offers, remembered: CapturePlan | None
) -> None:
    """Load for a lower runtime where not all ranks can run this one alike, or it did not work at an earlier start."""
    loaded = loaded_for(vllm_config)
    if loaded is None:
        return
    highest = loaded if remembered is None else remembered.runtime
    shared = next(
        name
        for name in downwards(loaded)
        if RUNTIMES_UPWARDS.index(name) <= RUNTIMES_UPWARDS.index(highest) and _is_shared(offers.get(name, ()))
    )
    if shared is not loaded:
        reason = next((offer.refusal for offer in offers[loaded] if offer.refusal), "see the plan")
        logger.warning("The ranks load without %s: %s", RUNTIMES[loaded].title, reason)
        load_for(vllm_config, shared, request.mode, request.capture_sizes)


def _is_shared(offers: Sequence[RuntimeOffer]) -> bool:
    return len(set(offers)) <= 1 and not any(offer.refusal for offer in offers)


def load_for(vllm_config: VllmConfig, name: RuntimeName, mode: GraphMode, capture_sizes: Sequence[int]) -> None:
    """Let the next workers load for the runtime called ``name``, in ``mode``."""
    for runtime in IMPLEMENTATIONS.values():
        runtime.prepare(vllm_config, on=runtime.name is name)
    set_graphs(vllm_config.compilation_config, mode, capture_sizes)
    vllm_config.model_config.enforce_eager = mode is GraphMode.NONE
