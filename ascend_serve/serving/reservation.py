"""What one replica reserves on the cluster before its engine starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ascend_serve.cluster.placement import NodeOffer, placement_bundles
from ascend_serve.config.schema import ParallelConfig

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup


@dataclass(frozen=True, slots=True)
class Reservation:
    """The placement group of one replica.

    Attributes:
        bundles: A core for the replica, then the NPUs of its ranks.
        strategy: Strategy of the placement group.
        holds_npus: Whether the ranks go into this placement group. vLLM's Ray data-parallel backend makes a placement
            group of its own for each engine (``create_dp_placement_groups``, 0.23.0 and 0.32.0).
    """

    bundles: tuple[dict[str, float], ...]
    strategy: str
    holds_npus: bool

    @classmethod
    def of(cls, parallel: ParallelConfig, nodes: list[NodeOffer]) -> Reservation:
        """Lay one replica out on ``nodes``.

        Raises:
            ClusterError: It does not fit, with the arithmetic.
        """
        placement = placement_bundles(parallel, nodes)
        replica = {"CPU": 1.0}
        if parallel.data_parallel_size > 1:
            return cls((replica,), "PACK", holds_npus=False)
        return cls((replica, *map(dict, placement.bundles)), placement.strategy, holds_npus=True)

    def for_ranks(self, group: PlacementGroup) -> PlacementGroup | None:
        """The placement group that the engine is told to use."""
        return group if self.holds_npus else None
