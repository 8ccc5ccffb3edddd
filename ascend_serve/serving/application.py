"""The Ray Serve application: replicas that each hold one engine and its NPUs in one placement group."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ray
from pydantic import SecretStr
from ray import serve

from ascend_serve.cluster.placement import NodeOffer
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.config.serve_options import DEPLOYMENT
from ascend_serve.errors import AscendServeError
from ascend_serve.planning import DeploymentPlan
from ascend_serve.serving.environment import replica_runtime_env
from ascend_serve.serving.reservation import Reservation
from ascend_serve.serving.start_failure import marked
from ascend_serve.telemetry.metrics import ReplicaMetrics

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from ascend_serve.telemetry.report import GraphReport

_UNLIMITED = 2**31 - 1
"""vLLM's scheduler queues requests itself, by what fits into the KV cache; Serve's own limit (5) would starve it."""

_DEFAULTS: dict[str, Any] = {
    "max_ongoing_requests": _UNLIMITED,
    "graceful_shutdown_timeout_s": 10.0,
    "health_check_period_s": 5.0,
}
"""Options of the deployment that differ from Serve's defaults; ``serving.deployment`` wins."""


@serve.ingress()
class OpenAIReplica:
    """One engine with vLLM's OpenAI application; there is no other way in than HTTP.

    Args:
        config: What to serve.
        plan: What was decided about it.
        group: Name of the deployment's capture groups; each replica adds its own.
        started: When the user asked for it, in seconds since the epoch.
        reservation: What each replica holds.
        keys: API keys that clients may use; without one everybody may ask.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits it.
        self,
        config: AscendServeConfig,
        plan: DeploymentPlan,
        group: str,
        *,
        started: float,
        reservation: Reservation,
        keys: Sequence[SecretStr],
    ) -> None:
        from ascend_serve.serving.engine import OpenAIEngine
        from ascend_serve.serving.supervisor import Supervisor

        self._limits = (keys, config.serving.max_body_bytes)
        try:
            self._engine = await OpenAIEngine.start(
                config,
                plan,
                f"{group}-{serve.get_replica_context().replica_id.unique_id}",
                placement_group=reservation.for_ranks(ray.util.get_current_placement_group()),
                seconds={"replica_process": time.time() - started},
            )
        except AscendServeError as error:
            raise marked(error) from error
        self._engine.seconds["total"] = time.time() - started
        metrics = ReplicaMetrics()
        metrics.show(await self._engine.report())
        self._supervisor = Supervisor(self._engine, config.serving.health, metrics)

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        from ascend_serve.serving.gate import Gate
        from ascend_serve.serving.guard import guarded

        return guarded(Gate(self._engine.app, self._supervisor), *self._limits)

    async def check_health(self) -> None:
        """Serve's health check: an engine that does not come back makes the replica unhealthy."""
        self._supervisor.check_health()

    async def report(self) -> GraphReport:
        """What ``GET /graph/report`` answers."""
        return await self._engine.report()

    def __del__(self) -> None:
        if hasattr(self, "_supervisor"):
            self._supervisor.stop()
        if hasattr(self, "_engine"):
            self._engine.shutdown()


def build_application(
    config: AscendServeConfig,
    plan: DeploymentPlan,
    nodes: list[NodeOffer],
    *,
    group: str,
    started: float,
    keys: Sequence[SecretStr] = (),
) -> serve.Application:
    """Describe the application for Ray Serve.

    Args:
        config: What to serve.
        plan: What was decided about it.
        nodes: What the nodes of the cluster offer.
        group: Name of the capture groups; unique per version of the application.
        started: When the user asked for it, in seconds since the epoch.
        keys: API keys that clients may use; without one everybody may ask.

    Raises:
        ClusterError: The cluster has too few NPUs for the replicas that it starts with.
    """
    reservation = Reservation.of(config.parallel, nodes, replicas=first_replicas(config))
    deployment = serve.deployment(
        OpenAIReplica,
        name=DEPLOYMENT,
        ray_actor_options={"num_cpus": 1, "runtime_env": replica_runtime_env(config)},
        placement_group_bundles=list(reservation.bundles),
        placement_group_strategy=reservation.strategy,
        max_constructor_retry_count=1,
        **_DEFAULTS | config.serving.deployment,
    )
    return deployment.bind(config, plan, group, started=started, reservation=reservation, keys=keys)


def first_replicas(config: AscendServeConfig) -> int:
    """How many replicas the application starts with, as ``serving.deployment`` says."""
    options = config.serving.deployment
    scaling = options.get("autoscaling_config") or {}
    count = options.get("num_replicas")
    if isinstance(count, int):
        return count
    return int(scaling.get("initial_replicas") or scaling.get("min_replicas", 1))
