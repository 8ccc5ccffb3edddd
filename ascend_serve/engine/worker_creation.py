"""How vLLM's executor comes to its workers: it takes processes that wait, where some do.

vLLM's executor (0.23.0 and 0.32.0) creates its workers by ``ray.remote``; here it gets the spare that waits in a
bundle, or on its node, instead.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import ray
import vllm.v1.executor.ray_executor_v2 as vllm_executor
from ray.actor import ActorClass, ActorHandle
from ray.exceptions import RayError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from ascend_serve.cluster.connect import NAMESPACE
from ascend_serve.cluster.reserve import accelerators_here, nodes_of_bundles
from ascend_serve.engine.spare_worker import WORKER_RESOURCES, spare_name, spares_beside

logger = logging.getLogger(__name__)

_IMPORT_SECONDS = 300.0
"""How long an engine waits for a spare that still imports: a fresh worker would begin later."""


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
        return _waiting(spare_name(self._group, strategy.placement_group_bundle_index))

    def on_node(self, strategy: PlacementGroupSchedulingStrategy) -> ActorHandle | None:
        """One that waits on the node of a bundle, for one rank alone."""
        node_id = nodes_of_bundles(strategy.placement_group).get(strategy.placement_group_bundle_index)
        if node_id is None:
            return None
        beginning = spares_beside(self._group, node_id)
        known = {actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)}
        for name in sorted(name for name in known - self._taken if name.startswith(beginning)):
            self._taken.add(name)
            if (spare := _waiting(name)) is not None:
                return spare
        return None


def _waiting(name: str) -> ActorHandle | None:
    try:
        spare = ray.get_actor(name, namespace=NAMESPACE)
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
        num_cpus=0, resources=WORKER_RESOURCES, scheduling_strategy=strategy, max_retries=0
    )
    return asking.remote()
