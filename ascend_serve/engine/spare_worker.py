"""Worker processes that import what a worker needs before there is an engine, and wait for one that takes them.

One is a Ray actor in the bundle of the rank whose place it takes, or on a node to which ranks may move. The replica
owns them, since they outlive engine cores, each of which is a Ray job; those of the first engine begin with it, and
import while it does. That is why nothing here imports vLLM until one is told to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ray
from ray.actor import ActorHandle
from ray.runtime_context import RuntimeContext
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from ascend_serve.cluster.connect import NAMESPACE
from ascend_serve.cluster.placement import NPU
from ascend_serve.cluster.reserve import Reserve
from ascend_serve.node.environment import NOSET_VISIBLE_DEVICES
from ascend_serve.node.imports import import_at_once, uncollected

if TYPE_CHECKING:
    from ascend_serve.engine.node_worker import NodeWorkerProc
    from ascend_serve.engine.weight_source import WeightSource

WORKER_RESOURCES = {NPU: 0.5}
"""What Ray counts for one worker. The rest of its NPU is for the one that waits for the next engine, to which Ray then
gives the same device."""


class SpareWorkerProc:
    """A process that has imported what a worker needs, and takes no device before it is one.

    From `take_over` on it answers as vLLM's ``RayWorkerProc`` does (0.23.0 and 0.32.0).
    """

    _worker: NodeWorkerProc

    def __init__(self, worker_class: str = "") -> None:
        """Import vLLM's part of a worker and, after the plugins, the platform's, as vLLM does.

        Args:
            worker_class: Qualified name of the platform's worker, where it is known.
        """
        import_at_once("ascend_serve.engine.node_worker")
        with uncollected():
            from vllm.plugins import load_general_plugins
            from vllm.utils.import_utils import resolve_obj_by_qualname

            load_general_plugins()
            if worker_class:
                resolve_obj_by_qualname(worker_class)

    def wait(self) -> None:
        """Answer, when all is imported."""

    def hold(self, source: WeightSource) -> str:
        """Hold the weights of the rank whose place it may take; answers why not, empty where it does.

        Args:
            source: Where they are in the worker of that rank.
        """
        from ascend_serve.engine.held_weights import HOLDER

        return HOLDER.take(source)

    def take_over(self, accelerators: Mapping[str, list[str]] | None, **arguments: Any) -> None:
        """Be the worker that vLLM creates with ``arguments``.

        Args:
            accelerators: Devices of the rank, where Ray gave none to this process, which waited in no bundle.
            arguments: vLLM's.
        """
        from ascend_serve.engine.node_worker import NodeWorkerProc

        if accelerators is not None:
            # vLLM asks Ray's context for the device of its process.
            RuntimeContext.get_accelerator_ids = lambda _: dict(accelerators)
        self._worker = NodeWorkerProc(**arguments)

    def get_node_and_physical_gpu_ids(self) -> Any:
        """As vLLM's; which device Ray gave to it, and on which node."""
        return self._worker.get_node_and_physical_gpu_ids()

    def get_node_and_gpu_ids(self) -> Any:
        """The same by the name that it has in vLLM 0.23.0."""
        return self._worker.get_node_and_gpu_ids()

    def create_dist_init_method(self) -> str:
        """As `NodeWorkerProc`'s."""
        return self._worker.create_dist_init_method()

    def initialize_worker(self, *args: Any, **kwargs: Any) -> None:
        """As `NodeWorkerProc`'s."""
        self._worker.initialize_worker(*args, **kwargs)

    def wait_for_init(self) -> Any:
        """As vLLM's; where its answers come from."""
        return self._worker.wait_for_init()

    def run(self) -> None:
        """As vLLM's; comes back when the worker ends."""
        self._worker.run()


def start_spare(group: str, placement_group: PlacementGroup, place: int | Reserve, worker_class: str) -> ActorHandle:
    """Start one; returns while it imports.

    Args:
        group: Name of the capture group of the engine that may take it.
        placement_group: Where the ranks are.
        place: Index of a rank's bundle, or where ranks may come.
        worker_class: Qualified name of the platform's worker; empty where it is not known yet.
    """
    strategy: Any
    if isinstance(place, Reserve):
        strategy, resources = NodeAffinitySchedulingStrategy(place.node_id, soft=False), {}
    else:
        strategy, resources = PlacementGroupSchedulingStrategy(placement_group, place), WORKER_RESOURCES
    actor = ray.remote(SpareWorkerProc).options(
        name=spare_name(group, place),
        namespace=NAMESPACE,
        num_cpus=0,
        resources=resources,
        scheduling_strategy=strategy,
        runtime_env={"env_vars": {NOSET_VISIBLE_DEVICES: "1", **_inherited()}},
    )
    return actor.remote(worker_class)


def spare_name(group: str, place: int | Reserve) -> str:
    """Name of the actor that waits for an engine at a place."""
    if isinstance(place, Reserve):
        return f"{spares_beside(group, place.node_id)}{place.number}"
    return f"spare-{group}-{place}"


def spares_beside(group: str, node_id: str) -> str:
    """How the names of all begin that wait on a node."""
    return f"spare-{group}-on-{node_id}-"


def _inherited() -> dict[str, str]:
    """vLLM's own variables, which it reads when it is imported."""
    return {name: value for name, value in os.environ.items() if name.startswith("VLLM_")}
