"""Which ends of replicas are told; Ray's answers are scripted, `tests/e2e/test_leftovers` kills a real replica."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import GetTimeoutError, RayActorError

from ascend_serve.cluster.worker_death import WorkerDeath
from ascend_serve.graph.death import death_by_signal
from ascend_serve.serving import replica_watch
from ascend_serve.serving.replica_watch import ReplicaWatch

OURS, OTHER = "SERVE_REPLICA::demo#Engine#a", "SERVE_REPLICA::another#Engine#b"


class Cluster:
    """What Ray says of its actors.

    Attributes:
        actors: Names of those that there are.
        end: What asking one that has ended raises.
    """

    def __init__(self) -> None:
        self.actors = [OURS, OTHER, "SERVE_CONTROLLER_ACTOR"]
        self.end: Exception = RayActorError(error_msg="its worker process has died")

    def list_named_actors(self, *, all_namespaces: bool) -> list[dict[str, str]]:
        return [{"name": name, "namespace": "serve"} for name in self.actors]

    def get(self, reference: Any, timeout: float) -> None:
        raise self.end


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    there = Cluster()
    handle = SimpleNamespace(__ray_ready__=SimpleNamespace(remote=lambda: None))
    monkeypatch.setattr(ray.util, "list_named_actors", there.list_named_actors)
    monkeypatch.setattr(ray, "get_actor", lambda name, namespace: handle)
    monkeypatch.setattr(ray, "get", there.get)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "node"))
    monkeypatch.setattr(
        replica_watch, "death_of_actor", lambda error, actor, node: WorkerDeath(death_by_signal("SIGKILL"))
    )
    return there


def test_a_replica_that_is_killed_is_told_once(cluster: Cluster) -> None:
    watch = ReplicaWatch("demo")
    assert watch.ended() == []
    cluster.actors.remove(OURS)
    (told,) = watch.ended()
    assert told.startswith("its worker process was ended by SIGKILL")
    assert watch.ended() == []


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(RayActorError(error_msg="The actor was killed by `ray.kill`"), id="Serve ended it"),
        pytest.param(GetTimeoutError(), id="it may live"),
    ],
)
def test_what_was_asked_for_is_not_told(cluster: Cluster, end: Exception) -> None:
    watch = ReplicaWatch("demo")
    watch.ended()
    cluster.actors.remove(OURS)
    cluster.end = end
    assert watch.ended() == []


def test_replicas_of_other_applications_are_none_of_its(cluster: Cluster) -> None:
    watch = ReplicaWatch("demo")
    watch.ended()
    cluster.actors.remove(OTHER)
    assert watch.ended() == []
