"""Where worker processes wait for ranks that may move there: nodes beside those of a placement group.

A placement group that loses a node gets its bundles on another one. Nobody can wait inside of a bundle that is not
there yet, so a reserve waits on the node, without its resources, and is told its device by the bundle that came there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import ray
from ray._private.state import available_resources_per_node
from ray.util import placement_group_table
from ray.util.placement_group import PlacementGroup

from ascend_serve.cluster.connect import node_offers
from ascend_serve.cluster.placement import NPU, NodeOffer

_MOST_NODES = 2
"""On which a replica has reserves: more are seldom lost at once, and each process takes half a GiB and more."""


class Reserve(NamedTuple):
    """A place for a worker process that may be any rank which comes to its node.

    Attributes:
        node_id: Ray's id of the node.
        number: Counted from 0 on each node.
    """

    node_id: str
    number: int


def rank_bundles(placement_group: PlacementGroup) -> list[int]:
    """Indices of the bundles that are ranks."""
    return [index for index, bundle in enumerate(placement_group.bundle_specs) if bundle.get(NPU)]


def nodes_of_bundles(placement_group: PlacementGroup) -> dict[int, str]:
    """The node of each bundle; empty for those that Ray looks for a node for."""
    found: Mapping[int, str] = placement_group_table(placement_group)["bundles_to_node_id"]
    return dict(found)


def reserves(nodes: Iterable[str], offers: Sequence[NodeOffer]) -> list[Reserve]:
    """Where to wait for ranks whose node is lost: as many on a node beside theirs as one of theirs has.

    Ranks that are all on one node are lost with their replica, which is on it too.

    Args:
        nodes: Node of each rank.
        offers: The nodes of the cluster, with the NPUs that are free.
    """
    ranks = Counter(nodes)
    if len(ranks) < 2:
        return []
    most = max(ranks.values())
    beside = [node.node_id for node in offers if node.node_id not in ranks and node.npus >= most]
    return [Reserve(node_id, number) for node_id in beside[:_MOST_NODES] for number in range(most)]


def free_offers() -> list[NodeOffer]:
    """What the living nodes have left; how much that is of each is a private name of Ray (2.60.0)."""
    free = available_resources_per_node()
    return [replace(node, npus=int(free.get(node.node_id, {}).get(NPU, 0))) for node in node_offers()]


def accelerators_here() -> dict[str, list[str]]:
    """The devices that Ray gives to whoever asks, by resource."""
    given: dict[str, list[str]] = ray.get_runtime_context().get_accelerator_ids()
    return given
