"""The Ray Serve application: replicas that each hold one engine and its NPUs in one placement group."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ray
from pydantic import SecretStr
from ray import serve

from ascend_serve.api.stream_journal import SECRET_VARIABLE
from ascend_serve.cluster.placement import NodeOffer
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.config.serve_options import DEPLOYMENT
from ascend_serve.errors import AscendServeError
from ascend_serve.node.own_folder import leave_own_folder
from ascend_serve.planning import DeploymentPlan
from ascend_serve.replica.process_environment import replica_runtime_env
from ascend_serve.replica.reservation import Reservation
from ascend_serve.replica.software import model_identity
from ascend_serve.replica.start_failure import marked
from ascend_serve.telemetry.metrics import ReplicaMetrics
from ascend_serve.telemetry.replica_status import ReplicaStatus, read_load

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from ascend_serve.api.clients import Note
    from ascend_serve.api.handle_api import Body, Reply
    from ascend_serve.api.request_limits import RequestLimits
    from ascend_serve.events import Event
    from ascend_serve.replica.supervisor import Supervisor
    from ascend_serve.telemetry.report import GraphReport

_UNLIMITED = 2**31 - 1
"""vLLM's scheduler queues requests itself, by what fits into the KV cache; Serve's own limit (5) would starve it."""

_DEFAULTS: dict[str, Any] = {
    "max_ongoing_requests": _UNLIMITED,
    "graceful_shutdown_timeout_s": 10.0,
    # A replica that has ended is replaced when it does not answer: its node may not be able to tell.
    "health_check_period_s": 1.0,
}
"""Options of the deployment that differ from Serve's defaults; ``serving.deployment`` wins."""


def graceful_shutdown_seconds(config: AscendServeConfig) -> float:
    """How long a replica that ends may take to finish its requests."""
    return float({**_DEFAULTS, **config.serving.deployment}["graceful_shutdown_timeout_s"])


def protected(
    app: ASGIApp,
    supervisor: Supervisor,
    metrics: ReplicaMetrics,
    limits: RequestLimits,
    note: Note,
    *,
    keys: Sequence[SecretStr] = (),
) -> ASGIApp:
    """Put everything before the application of an engine that stands between it and who asks.

    Args:
        app: vLLM's application.
        supervisor: Knows whether the engine answers.
        metrics: Where requests are counted.
        limits: How much one request may ask for.
        note: Is told who asks.
        keys: Keys that clients may use; without one everybody may ask.
    """
    from ascend_serve.api.admission import guarded
    from ascend_serve.api.departure import Departure
    from ascend_serve.replica.gate import Gate

    return guarded(Gate(Departure(app), supervisor, metrics.passed), keys, limits, note)


class EngineReplica:
    """One engine, which other deployments of an application ask over their handle.

    Args:
        config: What to serve.
        plan: What was decided about it.
        group: Name of the deployment's capture groups; each replica adds its own.
        started: When the user asked for it, in seconds since the epoch.
        reservation: What each replica holds.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits it.
        self,
        config: AscendServeConfig,
        plan: DeploymentPlan,
        group: str,
        *,
        started: float,
        reservation: Reservation,
    ) -> None:
        from ascend_serve.api.handle_api import HandleApi
        from ascend_serve.replica.last_will import LastWill
        from ascend_serve.replica.observer import Observer
        from ascend_serve.replica.openai_engine import OpenAIEngine
        from ascend_serve.replica.ray_metrics import RayMetrics
        from ascend_serve.replica.supervisor import Supervisor

        self._serving = config.serving
        try:
            self._engine = await OpenAIEngine.start(
                config,
                plan,
                f"{group}-{serve.get_replica_context().replica_id.unique_id}",
                placement_group=reservation.for_ranks(ray.util.get_current_placement_group()),
                seconds={"replica_process": time.time() - started},
                holds_weights=config.serving.recovery.holds_weights,
            )
        except AscendServeError as error:
            await asyncio.to_thread(leave_own_folder)
            raise marked(error) from error
        self._engine.note_total(time.time() - started)
        metrics = self._metrics = ReplicaMetrics()
        metrics.show(await self._engine.report())
        self._observer = Observer(self._engine, metrics)
        self._ray_metrics = RayMetrics(self._observer.refresh)
        self._supervisor = Supervisor(self._engine, config.serving, metrics, LastWill(config))
        self._api = HandleApi(self._guarded_app())

    def _guarded_app(self, keys: Sequence[SecretStr] = ()) -> ASGIApp:
        from ascend_serve.api.request_limits import RequestLimits
        from ascend_serve.api.response_items import ResponseItems

        longest = self._engine.run.llm.model_config.max_model_len
        items = ResponseItems(self._engine.app).refusal
        limits = RequestLimits(self._serving.max_body_bytes, self._serving.limits, longest, items)
        app = self._observer.around(self._engine.app)
        return protected(app, self._supervisor, self._metrics, limits, self._engine.coming, keys=keys)

    async def chat(self, request: Body) -> Reply:
        """Answer the body of a chat request; see `HandleApi.ask`."""
        return await self._api.ask("/v1/chat/completions", request)

    async def completions(self, request: Body) -> Reply:
        """Answer the body of a completions request; see `HandleApi.ask`."""
        return await self._api.ask("/v1/completions", request)

    async def embeddings(self, request: Body) -> Reply:
        """Answer the body of an embeddings request, where the model embeds; see `HandleApi.ask`."""
        return await self._api.ask("/v1/embeddings", request)

    async def check_health(self) -> None:
        """Serve's health check: an engine that does not come back makes the replica unhealthy."""
        self._supervisor.check_health()

    async def report(self) -> GraphReport:
        """What ``GET /graph/report`` answers."""
        return await self._engine.report()

    async def events(self) -> tuple[Event, ...]:
        """What happened, oldest first, as far as it is kept."""
        return self._engine.events.events

    async def page(self) -> str:
        """What ``GET /graph`` shows now, as a document that stands by itself."""
        return await self._observer.stored_page()

    async def status(self) -> ReplicaStatus:
        """What ``ascend-serve status`` shows of this replica."""
        report = await self._engine.report()
        file = self._engine.events.file
        return ReplicaStatus(
            replica=serve.get_replica_context().replica_id.unique_id,
            state="serving" if self._supervisor.is_serving else "restarting",
            node=ray.util.get_node_ip_address(),
            pid=os.getpid(),
            since=self._engine.events.story.ready,
            load=read_load(),
            report=report.model_copy(update={"events": ()}),
            event_file="" if file is None else str(file),
        )

    def __del__(self) -> None:
        if hasattr(self, "_ray_metrics"):
            self._ray_metrics.stop()
        if hasattr(self, "_supervisor"):
            self._supervisor.stop()
        if hasattr(self, "_engine"):
            self._engine.shutdown()
        # Serve ends this process without another word.
        leave_own_folder()


@serve.ingress()
class OpenAIReplica(EngineReplica):
    """An engine that answers HTTP too, with vLLM's OpenAI application.

    Args:
        args: As of `EngineReplica`.
        keys: API keys that clients may use; without one everybody may ask. A handle needs none.
        options: As of `EngineReplica`.
    """

    async def __init__(  # type: ignore[misc]
        self, config: AscendServeConfig, *args: Any, keys: Sequence[SecretStr], **options: Any
    ) -> None:
        self._keys = keys
        self._model = model_identity(config)
        self._secret = os.environ.pop(SECRET_VARIABLE, "")
        await super().__init__(config, *args, **options)

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        return self._engine.http_metrics.around(self._kept(self._guarded_app(self._keys)))

    def _kept(self, app: ASGIApp) -> ASGIApp:
        """Let streams outlive this replica, where somebody keeps them."""
        if not self._secret:
            return app
        from ascend_serve.replica.kept_answers import KeptAnswers

        return KeptAnswers(app, self._secret, self._model, self._metrics.took_over)


def build_application(
    config: AscendServeConfig,
    plan: DeploymentPlan,
    nodes: list[NodeOffer],
    *,
    group: str,
    started: float,
    keys: Sequence[SecretStr] | None = (),
    runtime_env: Mapping[str, Any] | None = None,
) -> serve.Application:
    """Describe the application for Ray Serve.

    Args:
        config: What to serve.
        plan: What was decided about it.
        nodes: What the nodes of the cluster offer.
        group: Name of the capture groups; unique per version of the application.
        started: When the user asked for it, in seconds since the epoch.
        keys: API keys that clients may use; without one everybody may ask. ``None`` leaves HTTP out.
        runtime_env: Runtime environment of the job, where this process is not connected to Ray yet.

    Raises:
        ClusterError: The cluster has too few NPUs for the replicas that it starts with.
    """
    reservation = Reservation.of(config.parallel, nodes, replicas=first_replicas(config))
    deployment = serve.deployment(
        EngineReplica if keys is None else OpenAIReplica,
        name=DEPLOYMENT,
        ray_actor_options={"num_cpus": 1, "runtime_env": replica_runtime_env(config, runtime_env)},
        placement_group_bundles=list(reservation.bundles),
        placement_group_strategy=reservation.strategy,
        max_constructor_retry_count=1,
        **_DEFAULTS | config.serving.deployment,
    )
    own = {} if keys is None else {"keys": keys}
    return deployment.bind(config, plan, group, started=started, reservation=reservation, **own)


def first_replicas(config: AscendServeConfig) -> int:
    """How many replicas the application starts with, as ``serving.deployment`` says."""
    options = config.serving.deployment
    scaling = options.get("autoscaling_config") or {}
    count = options.get("num_replicas")
    if isinstance(count, int):
        return count
    return int(scaling.get("initial_replicas") or scaling.get("min_replicas", 1))
