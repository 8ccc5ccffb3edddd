"""Where Ray puts the bundles that we ask for, and vLLM the ranks: three nodes of two NPUs each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.integration.engines import ROOT

PLACE = """
import json
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group, remove_placement_group
from vllm.v1.executor.ray_utils import get_bundles_sorted_by_node
from ascend_serve.cluster.connect import node_offers
from ascend_serve.config.schema import ParallelConfig
from ascend_serve.errors import ClusterError
from ascend_serve.replica.reservation import Reservation

cluster = Cluster()
nodes = [cluster.add_node(num_cpus=1, resources={"NPU": 2}, include_dashboard=False, object_store_memory=2**27)
         for _ in range(3)]
ray.init(address=cluster.address, log_to_driver=False)

def place(tensor, pipeline):
    parallel = ParallelConfig(tensor_parallel_size=tensor, pipeline_parallel_size=pipeline)
    reservation = Reservation.of(parallel, node_offers())
    group = placement_group(list(reservation.bundles), strategy=reservation.strategy)
    ray.get(group.ready(), timeout=1500)
    return group

def ranks(group):
    return [node for _, node, _ in get_bundles_sorted_by_node(group)]

found = {}
for tensor, pipeline in ((2, 1), (1, 2), (2, 2), (2, 3), (4, 1)):
    group = place(tensor, pipeline)
    found[f"{tensor} x {pipeline}"] = ranks(group)
    remove_placement_group(group)

group = place(2, 2)
head = nodes[0].node_id
lost = next(node for node in ranks(group) if node != head)
cluster.remove_node(next(node for node in nodes if node.node_id == lost))
ray.get(group.ready(), timeout=1500)
while lost in ray.util.placement_group_table(group)["bundles_to_node_id"].values():
    pass
ray.get(group.ready(), timeout=1500)
found["after a loss"] = ranks(group)
found["lost"] = lost
try:
    place(2, 3)
except ClusterError as error:
    found["refused"] = error.problem
print("FOUND", json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    env = {**os.environ, "RAY_AUTH_MODE": "token", "ASCEND_SERVE_EMULATED_NPU": "1"}
    done = subprocess.run([sys.executable, "-c", PLACE], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("FOUND "))
    answer: dict[str, Any] = json.loads(line.removeprefix("FOUND "))
    return answer


@pytest.mark.parametrize(
    ("sizes", "layout"),
    [
        pytest.param("2 x 1", "aa", id="a group on one node"),
        pytest.param("1 x 2", "aa", id="two stages on one node"),
        pytest.param("2 x 2", "aabb", id="a stage per node, with a spare node"),
        pytest.param("2 x 3", "aabbcc", id="all nodes"),
        pytest.param("4 x 1", "aabb", id="a group over whole nodes"),
        pytest.param("after a loss", "aabb", id="after the loss of a node"),
    ],
)
def test_ranks_are_together_that_belong_together(found: dict[str, Any], sizes: str, layout: str) -> None:
    letters = {node: "abc"[number] for number, node in enumerate(dict.fromkeys(found[sizes]))}
    assert "".join(letters[node] for node in found[sizes]) == layout


def test_a_lost_node_is_left(found: dict[str, Any]) -> None:
    assert found["lost"] not in found["after a loss"]


def test_what_does_not_fit_is_refused_with_the_nodes_that_are_left(found: dict[str, Any]) -> None:
    assert "needs 6 NPUs (tensor_parallel_size 2 x pipeline_parallel_size 3" in found["refused"]
    assert "the cluster offers 4" in found["refused"]
