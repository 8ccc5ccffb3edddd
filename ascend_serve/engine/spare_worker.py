"""Worker processes that wait with vLLM imported, for an engine that takes the place of one that is lost.

A spare is a Ray actor in the bundle of the rank whose place it may take, or on a node to which ranks may move. vLLM's
executor (0.23.0 and 0.32.0) creates its workers by ``ray.remote``; here it gets the spare that waits in a bundle, or
on its node, instead. The replica owns the spares, since they outlive engine cores, each of which is a Ray job.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import ray
import vllm.v1.executor.ray_executor_v2 as vllm_executor
from ray.actor import ActorClass, ActorHandle
from ray.exceptions import RayError
from ray.runtime_context import RuntimeContext
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy
from vllm.platforms import current_platform
from vllm.plugins import load_general_plugins
from vllm.utils.import_utils import resolve_obj_by_qualname

from ascend_serve.cluster.reserve import Reserve, accelerators_here, nodes_of_bundles
from ascend_serve.engine.held_weights import HOLDER
from ascend_serve.engine.node_worker import NodeWorkerProc
from ascend_serve.engine.weight_source import WeightSource
from ascend_serve.node.imports import uncollected

logger = logging.getLogger(__name__)

WORKER_SHARE = 0.5
"""Part of its NPU that Ray counts for a worker: the rest is for the spare, to which Ray then gives the same device."""

_NAMESPACE = "ascend_serve"

_IMPORT_SECONDS = 300.0
"""How long an engine waits for a spare that still imports: a fresh worker would begin later."""


class SpareWorkerProc(NodeWorkerProc):
    """A worker process that has imported what its worker needs, and takes no device before it is one."""

    def __init__(self) -> None:
        """Wait; vLLM's own part begins in `take_over`."""

    def prepare(self, worker_class: str) -> None:
        """Import the platform's worker, after the plugins, as vLLM does.

        Args:
            worker_class: Its qualified name.
        """
        with uncollected():
            load_general_plugins()
            resolve_obj_by_qualname(worker_class)

    def wait(self) -> None:
        """Answer, after all that was asked before."""

    def hold(self, source: WeightSource) -> str:
        """Hold the weights of the rank whose place it may take; answers why not, empty where it does.

        Args:
            source: Where they are in the worker of that rank.
        """
        return HOLDER.take(source)

    def take_over(self, accelerators: Mapping[str, list[str]] | None, **arguments: Any) -> None:
        """Be the worker that vLLM creates with ``arguments``.

        Args:
            accelerators: Devices of the rank, where Ray gave none to this process, which waited in no bundle.
            arguments: vLLM's.
        """
        if accelerators is not None:
            # vLLM asks Ray's context for the device of its process.
            RuntimeContext.get_accelerator_ids = lambda _: dict(accelerators)
        super().__init__(**arguments)


def start_spare(group: str, placement_group: PlacementGroup, place: int | Reserve, worker_class: str) -> ActorHandle:
    """Start a spare; returns while it imports.

    Args:
        group: Name of the capture group of the engine that may take it.
        placement_group: Where the ranks are.
        place: Index of a rank's bundle, or where ranks may come.
        worker_class: Qualified name of the platform's worker.
    """
    variables = dict.fromkeys(current_platform.ray_noset_device_env_vars, "1")
    strategy: Any
    if isinstance(place, Reserve):
        strategy, resources = NodeAffinitySchedulingStrategy(place.node_id, soft=False), {}
    else:
        strategy, resources = PlacementGroupSchedulingStrategy(placement_group, place), worker_resources()
    actor = ray.remote(SpareWorkerProc).options(
        name=_name(group, place),
        namespace=_NAMESPACE,
        num_cpus=0,
        resources=resources,
        scheduling_strategy=strategy,
        runtime_env={"env_vars": {**variables, **_inherited()}},
    )
    spare = actor.remote()
    spare.prepare.remote(worker_class)
    return spare


def worker_resources() -> dict[str, float]:
    """What Ray counts for one worker."""
    return {current_platform.ray_device_key: WORKER_SHARE}


@contextmanager
def spares_first(group: str) -> Iterator[None]:
    """While it lasts, vLLM's executor takes the spares that wait for ``group``, and fresh actors where none does."""
    with patch.object(vllm_executor, "ray", _SparesFirst(group)):
        yield


class _SparesFirst:
    """The module ``ray``, but for how it creates workers."""

    def __init__(self, group: str) -> None:
        self._waiting = _Waiting(group)

    def __getattr__(self, name: str) -> Any:
        return getattr(ray, name)

    def remote(self, worker_class: type) -> _Creation:
        return _Creation(ray.remote(worker_class), self._waiting)


class _Creation:
    """The creation of one worker, as vLLM spells it: ``ray.remote(C).options(...).remote(...)``."""

    def __init__(self, actor: ActorClass[Any], waiting: _Waiting) -> None:
        self._actor = actor
        self._waiting = waiting
        self._options: Mapping[str, Any] = {}

    def options(self, **options: Any) -> _Creation:
        self._options = options
        return self

    def remote(self, **arguments: Any) -> ActorHandle:
        strategy: PlacementGroupSchedulingStrategy = self._options["scheduling_strategy"]
        if (spare := self._waiting.in_bundle(strategy)) is not None:
            spare.take_over.remote(None, **arguments)
        elif (spare := self._waiting.on_node(strategy)) is not None:
            spare.take_over.remote(_accelerators(strategy), **arguments)
        else:
            return self._actor.options(**self._options).remote(**arguments)
        return spare


class _Waiting:
    """The spares that wait for one capture group."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._taken: set[str] = set()

    def in_bundle(self, strategy: PlacementGroupSchedulingStrategy) -> ActorHandle | None:
        """The one that waits in a bundle; ``None`` where there is none, or none that answers."""
        return _waiting(_name(self._group, strategy.placement_group_bundle_index))

    def on_node(self, strategy: PlacementGroupSchedulingStrategy) -> ActorHandle | None:
        """One that waits on the node of a bundle, for one rank alone."""
        node_id = nodes_of_bundles(strategy.placement_group).get(strategy.placement_group_bundle_index)
        if node_id is None:
            return None
        beginning = _beside(self._group, node_id)
        known = {actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)}
        for name in sorted(name for name in known - self._taken if name.startswith(beginning)):
            self._taken.add(name)
            if (spare := _waiting(name)) is not None:
                return spare
        return None


def _waiting(name: str) -> ActorHandle | None:
    try:
        spare = ray.get_actor(name, namespace=_NAMESPACE)
        ray.get(spare.wait.remote(), timeout=_IMPORT_SECONDS)
    except ValueError:
        return None
    except RayError as error:
        logger.warning("A fresh worker takes the place of a spare: %s", error)
        return None
    return spare


def _accelerators(strategy: PlacementGroupSchedulingStrategy) -> Any:
    """Devices of a bundle, as soon as Ray has told them."""
    asking = ray.remote(accelerators_here).options(
        num_cpus=0, resources=worker_resources(), scheduling_strategy=strategy, max_retries=0
    )
    return asking.remote()


def _name(group: str, place: int | Reserve) -> str:
    if isinstance(place, Reserve):
        return f"{_beside(group, place.node_id)}{place.number}"
    return f"spare-{group}-{place}"


def _beside(group: str, node_id: str) -> str:
    """How the names of all begin that wait on a node."""
    return f"spare-{group}-on-{node_id}-"


def _inherited() -> dict[str, str]:
    """vLLM's own variables, which it reads when it is imported."""
    return {name: value for name, value in os.environ.items() if name.startswith("VLLM_")}
