"""What one replica reserves on the cluster before its engine starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ascend_serve.cluster.placement import NodeOffer, counted, placement_bundles
from ascend_serve.config.schema import ParallelConfig
from ascend_serve.errors import ClusterError

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
    def of(cls, parallel: ParallelConfig, nodes: list[NodeOffer], replicas: int = 1) -> Reservation:
        """Lay one replica out on ``nodes``.

        Args:
            parallel: How the model is spread.
            nodes: What each node offers.
            replicas: How many replicas there must be room for.

        Raises:
            ClusterError: It does not fit, with the arithmetic.
        """
        placement = placement_bundles(parallel, nodes)
        _check_room(parallel, nodes, replicas)
        replica = {"CPU": 1.0}
        if parallel.data_parallel_size > 1:
            return cls((replica,), "PACK", holds_npus=False)
        return cls((replica, *map(dict, placement.bundles)), placement.strategy, holds_npus=True)

    def for_ranks(self, group: PlacementGroup) -> PlacementGroup | None:
        """The placement group that the engine is told to use."""
        return group if self.holds_npus else None


def _check_room(parallel: ParallelConfig, nodes: list[NodeOffer], replicas: int) -> None:
    """Serve would wait for ever for the replicas that do not fit."""
    size = parallel.data_parallel_size
    together = parallel.model_copy(update={"data_parallel_size": size * max(replicas, 1)})
    try:
        placement_bundles(together, nodes)
    except ClusterError as error:
        offered = ", ".join(f"{node.address}: {node.npus} NPU" for node in nodes)
        raise ClusterError(
            f"{replicas} replicas of {counted(parallel.world_size, 'NPU')} need {counted(together.world_size, 'NPU')}; "
            f"the cluster offers {sum(node.npus for node in nodes)} ({offered})",
            "Set fewer replicas in serving.deployment (num_replicas, or autoscaling_config.min_replicas), or fewer "
            "--engines of `generate`, smaller parallel sizes, or add nodes.",
        ) from error
