"""Replicas that end without having been told to: Ray Serve starts others, and says nothing of how they ended."""

from __future__ import annotations

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError, RayError

from ascend_serve.cluster.worker_death import death_of_actor

REPLICA_PREFIX = "SERVE_REPLICA::"
"""How Ray Serve (2.60.0) names the actor of a replica: this, application, deployment and id, with ``#`` between."""
_NAMESPACE = "serve"
_ASKED_FOR = "ray.kill"
"""Part of what Ray says of an actor that Serve ended, as when it scales down."""
_KNOW_SECONDS = 5.0


class ReplicaWatch:
    """Knows the replicas of one application.

    Args:
        application: Its name.
    """

    def __init__(self, application: str) -> None:
        self._prefix = f"{REPLICA_PREFIX}{application}#"
        self._known: dict[str, ActorHandle] = {}

    def ended(self) -> list[str]:
        """How replicas ended since the last look that nobody had told to, for a person."""
        try:
            names = {actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)}
            ours = {name for name in names if name.startswith(self._prefix)}
            gone = [self._known.pop(name) for name in self._known.keys() - ours]
            for name in ours - self._known.keys():
                self._known[name] = ray.get_actor(name, namespace=_NAMESPACE)
        except (RayError, ValueError):
            return []
        return [end for replica in gone if (end := _end_of(replica))]


def _end_of(replica: ActorHandle) -> str:
    """How a replica ended; empty where it was told to, or may not have ended."""
    try:
        ray.get(replica.__ray_ready__.remote(), timeout=_KNOW_SECONDS)
    except RayActorError as error:
        if _ASKED_FOR not in str(error):
            death = death_of_actor(error, replica, ray.get_runtime_context().get_node_id()).death
            return "\n".join(filter(None, (f"{death.text}. {death.advice}", death.story)))
    except GetTimeoutError:
        pass
    return ""
