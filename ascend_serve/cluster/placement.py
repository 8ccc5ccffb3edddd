"""Which node each rank goes to: tensor-parallel groups stay together, pipeline stages spread over nodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ascend_serve.config.schema import ParallelConfig
from ascend_serve.config.shipped import LAUNCH
from ascend_serve.errors import ClusterError

NPU = "NPU"
"""Ray's name of the resource."""


@dataclass(frozen=True, slots=True)
class NodeOffer:
    """What one node offers to Ray.

    Attributes:
        node_id: Ray's id.
        address: Its address.
        npus: NPUs that may be taken.
        gpus: GPUs it advertises; on an NPU node a sign of ``ray start --num-gpus``.
    """

    node_id: str
    address: str
    npus: int
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the ranks of one replica go.

    Attributes:
        bundles: One bundle of a Ray placement group per rank, in rank order.
        strategy: Strategy of the placement group.
        nodes: ``node_id`` of each rank.
        notes: What a person should know about this layout.
    """

    bundles: tuple[Mapping[str, float], ...]
    strategy: str
    nodes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def offers(ray_nodes: Sequence[Mapping[str, Any]]) -> list[NodeOffer]:
    """What the living nodes in the answer of ``ray.nodes()`` offer in total, whether taken or not."""
    return [
        NodeOffer(
            node_id=node["NodeID"],
            address=node["NodeManagerAddress"],
            npus=int(node["Resources"].get(NPU, 0)),
            gpus=int(node["Resources"].get("GPU", 0)),
        )
        for node in ray_nodes
        if node["Alive"]
    ]


def placement_bundles(parallel: ParallelConfig, nodes: Sequence[NodeOffer]) -> Placement:
    """Lay out the ranks of one replica: a tensor-parallel group per node, or whole nodes where it needs several.

    vLLM hands ranks to the bundles of a placement group node by node. Ray's ``PACK`` fills a node before it takes
    the next, so bundles are tied to nodes only where filling would tear a tensor-parallel group apart.

    Args:
        parallel: How the model is spread.
        nodes: What each node offers; the first nodes are preferred when several are equally good.

    Raises:
        ClusterError: When it cannot fit, with the arithmetic.
    """
    size = parallel.tensor_parallel_size
    groups = parallel.world_size // size
    largest = max((node.npus for node in nodes), default=0)
    if 0 < largest < size:
        layout = _spanning_groups(size, groups, largest, nodes)
    else:
        layout = _whole_groups(size, groups, nodes)
    if layout is None:
        raise _cannot_fit(parallel, nodes)
    return _placement(size, min(size, largest), layout, nodes)


def _whole_groups(size: int, groups: int, nodes: Sequence[NodeOffer]) -> list[str] | None:
    """Node of each rank, filling the nodes that hold the most groups first."""
    layout: list[str] = []
    for node in sorted(nodes, key=lambda node: -(node.npus // size)):
        taken = min(node.npus // size, groups - len(layout) // size)
        layout += [node.node_id] * (taken * size)
    return layout if len(layout) == groups * size else None


def _spanning_groups(size: int, groups: int, largest: int, nodes: Sequence[NodeOffer]) -> list[str] | None:
    """Node of each rank where one group fills several equal nodes."""
    full = [node.node_id for node in nodes if node.npus == largest]
    per_group = math.ceil(size / largest)
    if size % largest or len(full) < per_group * groups:
        return None
    return [node_id for node_id in full[: per_group * groups] for _ in range(largest)]


def _placement(size: int, per_node: int, layout: list[str], nodes: Sequence[NodeOffer]) -> Placement:
    used = {node.node_id: node for node in nodes if node.node_id in layout}
    torn = len(used) > 1 and any(node.npus % per_node for node in nodes)
    notes = []
    if any(len(set(layout[start : start + size])) > 1 for start in range(0, len(layout), size)):
        notes.append(f"a tensor-parallel group of {size} spans nodes: each layer's collectives cross the network")
    if torn:
        notes.append("bundles are tied to these nodes; a lost node needs a new placement")
    return Placement(
        bundles=tuple(_bundle(used[node_id].address if torn else None) for node_id in layout),
        strategy="STRICT_PACK" if len(used) == 1 else "PACK",
        nodes=tuple(layout),
        notes=tuple(notes),
    )


def counted(number: int, noun: str) -> str:
    """``1 NPU``, ``2 NPUs``, for messages."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _bundle(address: str | None) -> dict[str, float]:
    return {NPU: 1} if address is None else {NPU: 1, f"node:{address}": 0.001}


def _cannot_fit(parallel: ParallelConfig, nodes: Sequence[NodeOffer]) -> ClusterError:
    offered = ", ".join(f"{node.address}: {node.npus} NPU{_gpu_note(node)}" for node in nodes) or "no node"
    total = sum(node.npus for node in nodes)
    size = parallel.tensor_parallel_size
    problem = (
        f"The replica needs {counted(parallel.world_size, 'NPU')} (tensor_parallel_size {size} x "
        f"pipeline_parallel_size {parallel.pipeline_parallel_size} x "
        f"data_parallel_size {parallel.data_parallel_size}), each group of {size} on one node; "
        f"the cluster offers {total} ({offered})."
    )
    return ClusterError(problem, _remedy(nodes))


def _gpu_note(node: NodeOffer) -> str:
    return f" but {node.gpus} GPU" if node.gpus and not node.npus else ""


def _remedy(nodes: Sequence[NodeOffer]) -> str:
    disguised = [node for node in nodes if node.gpus and not node.npus]
    if disguised:
        return "; ".join(
            f"on {node.address} start Ray with --resources '{{\"NPU\": {node.gpus}}}' instead of --num-gpus"
            for node in disguised
        )
    largest = max((node.npus for node in nodes), default=0)
    if largest:
        return (
            f"Set parallel.tensor_parallel_size to at most {largest} (the largest node) and "
            "parallel.pipeline_parallel_size to the number of nodes, or add nodes."
        )
    return f"Start Ray on the NPU nodes with --resources '{{\"NPU\": <number of NPUs>}}' (see {LAUNCH}/worker.sh)."
