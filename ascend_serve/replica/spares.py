"""Keeps a spare worker process for each rank of a replica, so that an engine that is lost is back in seconds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import ray
from ray.exceptions import RayActorError

from ascend_serve.cluster.placement import NPU

if TYPE_CHECKING:
    from ray.actor import ActorHandle
    from ray.util.placement_group import PlacementGroup

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 30.0
"""How often it looks whether they still wait."""

_ANSWER_SECONDS = 0.5
"""How long one may take to answer that waits."""


class Spares:
    """The spares of one replica, and those that have become workers of the engine that runs.

    Args:
        placement_group: Where the ranks are; ``None`` where vLLM places them itself, and there are no spares.
    """

    def __init__(self, placement_group: PlacementGroup | None) -> None:
        self._placement_group = placement_group
        self._waiting: dict[int, ActorHandle] = {}
        self._ready: set[int] = set()
        self._taken: dict[int, ActorHandle] = {}

    async def keep(self, group: str, worker_class: str) -> None:
        """Start the spares that are missing, one after the other to leave cores to who serves, and again and again.

        Args:
            group: Name of the capture group of the engine that may take them.
            worker_class: Qualified name of the platform's worker.
        """
        while self._bundles:
            for bundle in self._bundles:
                try:
                    await self._keep_one(group, bundle, worker_class)
                except RayActorError as error:
                    logger.warning("A spare worker process ended: %s", error)
                    self._forget(bundle)
            await asyncio.sleep(_LOOK_SECONDS)

    @property
    def taken(self) -> Sequence[ActorHandle]:
        """Those that were left to the engine that runs, in the order of the bundles."""
        return [self._taken[bundle] for bundle in sorted(self._taken)]

    @property
    def number(self) -> int:
        """How many have imported everything and wait."""
        return len(self._ready)

    async def complete(self, group: str, worker_class: str) -> None:
        """Start those that the engine that starts now misses: they import while its core starts.

        Where a node was lost, Ray has its ranks on another one by now, where none waits.

        Args:
            group: Name of the capture group of that engine.
            worker_class: Qualified name of the platform's worker.
        """
        here = await asyncio.gather(*(self._is_here(bundle) for bundle in self._bundles))
        for bundle, is_here in zip(self._bundles, here, strict=True):
            if not is_here:
                self._taken[bundle] = await self._start(group, bundle, worker_class)

    def hand_over(self) -> None:
        """Leave those that wait to the engine that starts now, and end those of the engine before."""
        self.end_taken()
        self._taken, self._waiting = self._waiting, {}
        self._ready.clear()

    def end_taken(self) -> None:
        """End those that were left to an engine; what it left over of them too."""
        for spare in self._taken.values():
            ray.kill(spare)
        self._taken = {}

    def end(self) -> None:
        """End all of them."""
        self.hand_over()
        self.end_taken()

    async def _keep_one(self, group: str, bundle: int, worker_class: str) -> None:
        if bundle not in self._waiting:
            self._waiting[bundle] = await self._start(group, bundle, worker_class)
        await self._waiting[bundle].wait.remote()
        self._ready.add(bundle)

    async def _is_here(self, bundle: int) -> bool:
        """Whether one waits for the engine that starts now; one that still imports does."""
        if bundle not in self._taken:
            return False
        waits = asyncio.ensure_future(self._taken[bundle].wait.remote())
        done, _ = await asyncio.wait([waits], timeout=_ANSWER_SECONDS)
        return not done or waits.exception() is None

    async def _start(self, group: str, bundle: int, worker_class: str) -> ActorHandle:
        from ascend_serve.engine.spare_worker import start_spare

        assert self._placement_group is not None
        return await asyncio.to_thread(start_spare, group, self._placement_group, bundle, worker_class)

    def _forget(self, bundle: int) -> None:
        self._waiting.pop(bundle, None)
        self._ready.discard(bundle)

    @property
    def _bundles(self) -> list[int]:
        if self._placement_group is None:
            return []
        return [index for index, bundle in enumerate(self._placement_group.bundle_specs) if bundle.get(NPU)]
