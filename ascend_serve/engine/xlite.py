"""Xlite on the ranks: who has it is asked before any model is loaded, because a group cannot load half with it.

vllm-ascend's Xlite worker sets up a communicator of its own while it loads, and answers vLLM's profile run without a
forward: ranks with and without it would wait for each other. Checked against vllm-ascend 0.23.0 (``XliteGraphConfig``,
``XliteWorker``, ``XliteWrapper``).
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from vllm.v1.executor.ray_utils import get_bundles_sorted_by_node, initialize_ray_cluster

from ascend_serve.engine.graph_config import set_graphs
from ascend_serve.engine.npu import emulated_method
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import CapturePlan, GraphRequest
from ascend_serve.graph.rule import apply_rules
from ascend_serve.graph.rules import XLITE_RULES, Situation

if TYPE_CHECKING:
    from vllm.config import VllmConfig

logger = logging.getLogger(__name__)

OPTIONS = "xlite_graph_config"
INSTALL = "pip install --pre xlite"

_XLITE_WORKER = "vllm_ascend.xlite.xlite_worker.XliteWorker"
_PLAIN_WORKER = "vllm_ascend.worker.worker.NPUWorker"


@dataclass(frozen=True, slots=True)
class XliteOffer:
    """Whether one rank can run Xlite.

    Attributes:
        version: Version of the package; empty where it cannot run.
        refusal: Why it cannot run, and what to do; empty where it can.
    """

    version: str = ""
    refusal: str = ""


def is_loaded(vllm_config: VllmConfig) -> bool:
    """Whether models are loaded for Xlite."""
    return bool(vllm_config.additional_config.get(OPTIONS, {}).get("enabled"))


def offer_of(vllm_config: VllmConfig, rank: int) -> XliteOffer:
    """What this process, of ``rank``, can offer; the emulated NPU answers for its emulated Xlite."""
    scripted = emulated_method("xlite_version")
    refusal = _unsupported(vllm_config)
    if refusal:
        return XliteOffer(refusal=refusal)
    return installed() if scripted is None else _offer(scripted(vllm_config, rank), "it is not installed")


def installed() -> XliteOffer:
    """What the packages of this node offer."""
    try:
        importlib.import_module("torch")  # xlite's extension module is linked against it
        importlib.import_module("xlite._C")
        return _offer(version("xlite"), "")
    except (ImportError, PackageNotFoundError) as error:
        return _offer(None, str(error))


def _offer(found: str | None, reason: str) -> XliteOffer:
    return XliteOffer(found) if found else XliteOffer(refusal=f"{reason}; install it with `{INSTALL}`")


def _unsupported(vllm_config: VllmConfig) -> str:
    """Why Xlite cannot run this model in this layout, by the rules that also plan a deployment."""
    model, speculative = vllm_config.model_config, vllm_config.speculative_config
    situation = Situation(
        runtime=RuntimeName.XLITE,
        mode=GraphMode.NONE,
        requested_mode=GraphMode.NONE,
        architecture=model.architectures[0],
        pipeline_parallel_size=vllm_config.parallel_config.pipeline_parallel_size,
        num_speculative_tokens=0 if speculative is None else int(speculative.num_speculative_tokens or 0),
    )
    _, changes = apply_rules(XLITE_RULES, situation)
    if changes:
        return changes[0].adjustment.reason
    refusal = emulated_method("xlite_refusal")
    return "" if refusal is None else str(refusal(vllm_config))


def ask_ranks(vllm_config: VllmConfig, first_rank: int) -> tuple[XliteOffer, ...]:
    """Ask the node of every rank of this engine; empty when Xlite is not asked for.

    Args:
        vllm_config: vLLM's configuration.
        first_rank: Number of this engine's first rank in the capture group.
    """
    if not is_loaded(vllm_config):
        return ()
    world_size = vllm_config.parallel_config.world_size
    if emulated_method("xlite_version") is not None or _unsupported(vllm_config):
        return tuple(offer_of(vllm_config, first_rank + rank) for rank in range(world_size))
    initialize_ray_cluster(vllm_config.parallel_config, require_gpu_on_driver=False)
    placement_group = vllm_config.parallel_config.placement_group
    probe = ray.remote(num_cpus=0, max_retries=0)(installed)
    answers = [
        probe.options(scheduling_strategy=PlacementGroupSchedulingStrategy(placement_group, bundle)).remote()
        for bundle, _, _ in get_bundles_sorted_by_node(placement_group)[:world_size]
    ]
    return tuple(ray.get(answers))


def settle_runtime(
    vllm_config: VllmConfig, request: GraphRequest, offers: Sequence[XliteOffer], remembered: CapturePlan | None
) -> None:
    """Load for ACLGraph where not all ranks can run the same Xlite, or where it did not work at an earlier start."""
    if not offers:
        return
    gave_up = remembered is not None and remembered.runtime is not RuntimeName.XLITE
    if gave_up or len(set(offers)) > 1 or offers[0].refusal:
        logger.warning(
            "The ranks load without Xlite: %s", next((o.refusal for o in offers if o.refusal), "see the plan")
        )
        _leave(vllm_config, request.mode, request.capture_sizes)


def follow_plan(vllm_config: VllmConfig, plan: CapturePlan | None) -> None:
    """Let fresh workers load without Xlite where the plan that they start from is none for it."""
    if plan is not None and plan.runtime is not RuntimeName.XLITE and is_loaded(vllm_config):
        _leave(vllm_config, plan.mode, plan.capture_sizes)


def _leave(vllm_config: VllmConfig, mode: GraphMode, capture_sizes: Sequence[int]) -> None:
    """Let the next workers load for ACLGraph in ``mode`` instead of Xlite."""
    options = {"enabled": False, "full_mode": False}
    vllm_config.additional_config = {**vllm_config.additional_config, OPTIONS: options}
    if vllm_config.parallel_config.worker_cls == _XLITE_WORKER:
        vllm_config.parallel_config.worker_cls = _PLAIN_WORKER
    set_graphs(vllm_config.compilation_config, mode, capture_sizes)
    vllm_config.model_config.enforce_eager = mode is GraphMode.NONE
