"""Worker processes that wait with vLLM imported, for an engine that takes the place of one that is lost.

A spare is a Ray actor in the bundle of the rank whose place it may take. vLLM's executor (0.23.0 and 0.32.0) creates
its workers by ``ray.remote``; here it gets the spare that waits in a bundle instead. The replica owns the spares, since
they outlive engine cores, each of which is a Ray job of its own.
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
from ray.exceptions import GetTimeoutError, RayActorError
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from vllm.platforms import current_platform
from vllm.plugins import load_general_plugins
from vllm.utils.import_utils import resolve_obj_by_qualname

from ascend_serve.engine.node_worker import NodeWorkerProc

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
        load_general_plugins()
        resolve_obj_by_qualname(worker_class)

    def wait(self) -> None:
        """Answer, after all that was asked before."""

    def take_over(self, **arguments: Any) -> None:
        """Be the worker that vLLM creates with ``arguments``."""
        super().__init__(**arguments)


def start_spare(group: str, placement_group: PlacementGroup, bundle: int, worker_class: str) -> ActorHandle:
    """Start the spare of one rank; returns while it imports.

    Args:
        group: Name of the capture group of the engine that may take it.
        placement_group: Where the ranks are.
        bundle: Index of the rank's bundle.
        worker_class: Qualified name of the platform's worker.
    """
    variables = dict.fromkeys(current_platform.ray_noset_device_env_vars, "1")
    actor = ray.remote(SpareWorkerProc).options(
        name=_name(group, bundle),
        namespace=_NAMESPACE,
        num_cpus=0,
        resources=worker_resources(),
        scheduling_strategy=PlacementGroupSchedulingStrategy(placement_group, bundle),
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
        self._group = group

    def __getattr__(self, name: str) -> Any:
        return getattr(ray, name)

    def remote(self, worker_class: type) -> _Creation:
        return _Creation(ray.remote(worker_class), self._group)


class _Creation:
    """The creation of one worker, as vLLM spells it: ``ray.remote(C).options(...).remote(...)``."""

    def __init__(self, actor: ActorClass[Any], group: str) -> None:
        self._actor = actor
        self._group = group
        self._options: Mapping[str, Any] = {}

    def options(self, **options: Any) -> _Creation:
        self._options = options
        return self

    def remote(self, **arguments: Any) -> ActorHandle:
        spare = _spare(self._group, self._options["scheduling_strategy"].placement_group_bundle_index)
        if spare is None:
            return self._actor.options(**self._options).remote(**arguments)
        spare.take_over.remote(**arguments)
        return spare


def _spare(group: str, bundle: int) -> ActorHandle | None:
    """The spare that waits for a rank of ``group``; ``None`` where there is none, or none that answers."""
    try:
        spare = ray.get_actor(_name(group, bundle), namespace=_NAMESPACE)
        ray.get(spare.wait.remote(), timeout=_IMPORT_SECONDS)
    except ValueError:
        return None
    except (RayActorError, GetTimeoutError) as error:
        logger.warning("A fresh worker takes the place of a spare: %s", error)
        return None
    return spare


def _name(group: str, bundle: int) -> str:
    return f"spare-{group}-{bundle}"


def _inherited() -> dict[str, str]:
    """vLLM's own variables, which it reads when it is imported."""
    return {name: value for name, value in os.environ.items() if name.startswith("VLLM_")}
