"""Keeps a spare worker process for each rank of a replica, so that an engine that is lost is back in seconds.

Where ranks are on several nodes, spares wait on the others of the cluster too, for the ranks of one that is lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import ray
from ray.exceptions import RayError

from ascend_serve.cluster.reserve import Reserve, free_offers, nodes_of_bundles, rank_bundles, reserves
from ascend_serve.engine.spare_worker import start_spare

if TYPE_CHECKING:
    from ray.actor import ActorHandle
    from ray.util.placement_group import PlacementGroup

    from ascend_serve.engine.weight_source import RankWeights

logger = logging.getLogger(__name__)

Place = int | Reserve
"""Index of a rank's bundle, or where ranks may come."""

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
        self._waiting: dict[Place, ActorHandle] = {}
        self._ready: dict[Place, int] = {}
        self._taken: dict[Place, ActorHandle] = {}

    async def begin(self, group: str) -> None:
        """Start those that become the workers of the first engine: they import while its replica does.

        Args:
            group: Name of the capture group of that engine.
        """
        bundles = self._bundles
        spares = await asyncio.gather(*(self._start(group, bundle, "") for bundle in bundles))
        self._taken = dict(zip(bundles, spares, strict=True))

    async def keep(self, group: str, worker_class: str, held: Sequence[RankWeights] = ()) -> None:
        """Start the spares that are missing, one after the other to leave cores to who serves, and again and again.

        Args:
            group: Name of the capture group of the engine that may take them.
            worker_class: Qualified name of the platform's worker.
            held: Where the ranks of the engine that runs hold their weights, for the spares in their bundles to hold
                them too.
        """
        while self._bundles:
            places: list[Place] = [*self._bundles, *await self._reserves()]
            for place in places:
                try:
                    await self._keep_one(group, place, worker_class, held)
                # Its node may be gone since, or its name still be that of the one before.
                except (RayError, ValueError) as error:
                    logger.warning("A spare worker process ended, or cannot be started: %s", error)
                    self._forget(place)
            await asyncio.sleep(_LOOK_SECONDS)

    @property
    def taken(self) -> Sequence[ActorHandle]:
        """Those in bundles that were left to the engine that runs, in the order of the bundles."""
        return [self._taken[bundle] for bundle in self._bundles if bundle in self._taken]

    @property
    def number(self) -> int:
        """How many have imported everything and wait."""
        return len(self._ready)

    @property
    def held_bytes(self) -> int:
        """Bytes of weights that those hold which wait."""
        return sum(self._ready.values())

    async def complete(self, group: str, worker_class: str) -> None:
        """Start those that the engine that starts now misses: they import while its core starts.

        Where a node was lost, Ray has its ranks on another one by now, where one waits beside them or none.

        Args:
            group: Name of the capture group of that engine.
            worker_class: Qualified name of the platform's worker.
        """
        places = list(self._taken)
        are_here = await asyncio.gather(*(self._is_here(place) for place in places))
        here = {place for place, is_here in zip(places, are_here, strict=True) if is_here}
        nodes = await asyncio.to_thread(self._nodes)
        self._end_beside(nodes.values())
        for bundle in missing(nodes, here):
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

    async def _keep_one(self, group: str, place: Place, worker_class: str, held: Sequence[RankWeights]) -> None:
        if place not in self._waiting:
            self._waiting[place] = await self._start(group, place, worker_class)
        spare = self._waiting[place]
        await spare.wait.remote()
        if place not in self._ready:
            self._ready[place] = await _hold(spare, place, held)

    async def _is_here(self, place: Place) -> bool:
        """Whether one waits for the engine that starts now; one that still imports does."""
        waits = asyncio.ensure_future(self._taken[place].wait.remote())
        done, _ = await asyncio.wait([waits], timeout=_ANSWER_SECONDS)
        return not done or waits.exception() is None

    async def _start(self, group: str, place: Place, worker_class: str) -> ActorHandle:
        assert self._placement_group is not None
        return await asyncio.to_thread(start_spare, group, self._placement_group, place, worker_class)

    def _forget(self, place: Place) -> None:
        self._waiting.pop(place, None)
        self._ready.pop(place, None)

    def _end_beside(self, nodes: Collection[str]) -> None:
        """End those that no rank will take: on other nodes than ``nodes``."""
        for place in [place for place in self._taken if isinstance(place, Reserve) and place.node_id not in nodes]:
            ray.kill(self._taken.pop(place))

    async def _reserves(self) -> list[Reserve]:
        """Where to wait beside the ranks; nowhere new while Ray does not tell."""
        try:
            nodes, offers = await asyncio.to_thread(lambda: (self._nodes(), free_offers()))
        except RayError as error:
            logger.warning("Ray does not tell where ranks could move to: %s", error)
            return []
        return reserves(nodes.values(), offers)

    def _nodes(self) -> dict[int, str]:
        """The node of each rank, by its bundle; empty for one that has none just now."""
        assert self._placement_group is not None
        nodes = nodes_of_bundles(self._placement_group)
        return {bundle: nodes.get(bundle, "") for bundle in self._bundles}

    @property
    def _bundles(self) -> list[int]:
        return [] if self._placement_group is None else rank_bundles(self._placement_group)


async def _hold(spare: ActorHandle, place: Place, held: Sequence[RankWeights]) -> int:
    """Have a spare hold the weights of its rank; answers their bytes, 0 where it cannot or there are none to hold."""
    sources = [weights.source for weights in held if weights.bundle == place and weights.source is not None]
    for source in sources:
        problem = await spare.hold.remote(source)
        if not problem:
            return source.bytes
        logger.warning("A spare would read its weights from files, since it cannot hold them: %s", problem)
    return 0


def missing(nodes: Mapping[int, str], here: Collection[Place]) -> list[int]:
    """Bundles for which none waits, neither in them nor on their node. Pure.

    Args:
        nodes: Node of each rank, by its bundle.
        here: Where one waits.
    """
    beside = Counter(place.node_id for place in here if isinstance(place, Reserve))
    found = []
    for bundle, node_id in nodes.items():
        if bundle in here:
            continue
        if beside[node_id]:
            beside[node_id] -= 1
        else:
            found.append(bundle)
    return found
