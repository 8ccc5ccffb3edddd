"""Placement and environment of a deployment, on a given cluster or on the machines that the configuration describes."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from ascend_serve.cluster.placement import NodeOffer, Placement, placement_bundles
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.errors import ClusterError, PlanError
from ascend_serve.graph.stream_costs import EXPANSION_MODE, ExpansionMode
from ascend_serve.node.environment import node_environment
from ascend_serve.node.facts import NodeFacts


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class PlannedRank(_Part):
    """One rank: its node, its place among the NPUs taken there, and its place in the parallel layout."""

    rank: int
    node: str
    device: int
    data_parallel_rank: int
    pipeline_parallel_rank: int
    tensor_parallel_rank: int


class PlannedPlacement(_Part):
    """Where the ranks of one replica go.

    Attributes:
        nodes: Nodes that are used: Ray's ids on a given cluster, ``node-0`` and so on elsewhere.
        npus: NPUs that one replica takes.
        bundles: Bundles of the Ray placement group, one per rank.
        strategy: Its strategy.
        ranks: All ranks, in order.
        environment: Variables by node; ``<...>`` stands for what each node finds out itself.
    """

    nodes: tuple[str, ...]
    npus: int
    bundles: tuple[dict[str, float], ...]
    strategy: str
    ranks: tuple[PlannedRank, ...]
    environment: dict[str, dict[str, str]]


def plan_placement(
    config: AscendServeConfig,
    expansion_mode: ExpansionMode | None = None,
    nodes: Sequence[NodeOffer] | None = None,
) -> tuple[PlannedPlacement, tuple[str, ...]]:
    """Lay out the ranks of one replica.

    Args:
        config: The configuration.
        expansion_mode: Where HCCL unfolds collectives.
        nodes: What the nodes of a given cluster offer; the machines that the configuration describes when not given.

    Returns:
        The placement, and what a person should know about it.

    Raises:
        PlanError: The replica does not fit on the described machines, with the arithmetic.
        ClusterError: It does not fit on ``nodes``.
    """
    offers = described_offers(config) if nodes is None else nodes
    try:
        placement = placement_bundles(config.parallel, offers)
    except ClusterError as error:
        if nodes is not None:
            raise
        raise PlanError(error.problem, _remedy(config)) from error
    used = [offer for offer in offers if offer.node_id in set(placement.nodes)]
    planned = PlannedPlacement(
        nodes=tuple(offer.node_id for offer in used),
        npus=config.parallel.world_size,
        bundles=tuple(dict(bundle) for bundle in placement.bundles),
        strategy=placement.strategy,
        ranks=_ranks(config, placement),
        environment={offer.node_id: _environment(config, offer, expansion_mode) for offer in used},
    )
    return planned, placement.notes


def described_offers(config: AscendServeConfig) -> list[NodeOffer]:
    """What the machines offer that the configuration describes."""
    if config.emulated.npus:
        return [NodeOffer("node-0", "node-0", config.emulated.npus)]
    nodes = [f"node-{index}" for index in range(config.hardware.nodes)]
    return [NodeOffer(node, node, config.hardware.npus_per_node) for node in nodes]


def _remedy(config: AscendServeConfig) -> str:
    if config.emulated.npus:
        return f"Set emulated.npus={config.parallel.world_size}, or smaller parallel sizes."
    return (
        "Set hardware.nodes and hardware.npus_per_node to what the cluster has, or smaller parallel sizes; usual is "
        "parallel.tensor_parallel_size = NPUs per node, and parallel.pipeline_parallel_size = nodes."
    )


def _ranks(config: AscendServeConfig, placement: Placement) -> tuple[PlannedRank, ...]:
    """Ranks count tensor parallelism fastest, then pipeline, then data parallelism, as vLLM's."""
    tensor, pipeline = config.parallel.tensor_parallel_size, config.parallel.pipeline_parallel_size
    return tuple(
        PlannedRank(
            rank=rank,
            node=node,
            device=placement.nodes[:rank].count(node),
            data_parallel_rank=rank // (tensor * pipeline),
            pipeline_parallel_rank=rank // tensor % pipeline,
            tensor_parallel_rank=rank % tensor,
        )
        for rank, node in enumerate(placement.nodes)
    )


def _environment(config: AscendServeConfig, offer: NodeOffer, expansion_mode: ExpansionMode | None) -> dict[str, str]:
    if config.emulated.npus:
        return {}
    facts = NodeFacts(
        address=f"<address of {offer.address}>",
        hostname=offer.node_id,
        interface=f"<interface of {offer.address}>",
        device_files=offer.npus,
        python="",
    )
    chosen = {} if expansion_mode is None else {EXPANSION_MODE: expansion_mode.value}
    return dict(node_environment(facts, chosen).env)
