"""Bringing the application up on a cluster, watching it, and taking it down."""

from __future__ import annotations

import contextlib
import io
import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import SecretStr
from ray import ObjectRef, serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus, DeploymentStatusOverview, LoggingConfig

from ascend_serve.capture.client import glance
from ascend_serve.capture.snapshot import Snapshot
from ascend_serve.cluster.connect import node_offers
from ascend_serve.cluster.local import LOOPBACK
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.config.serve_options import DEPLOYMENT
from ascend_serve.errors import ClusterError
from ascend_serve.events import OF_THE_ENGINE, Event
from ascend_serve.planning import DeploymentPlan
from ascend_serve.replica.application import build_application, graceful_shutdown_seconds
from ascend_serve.replica.start_failure import unmarked
from ascend_serve.serving.haproxy_config import DETOUR, gist
from ascend_serve.serving.ingress import EVERYWHERE, start_options, warn_if_other, warn_of_router
from ascend_serve.serving.serve_start import begin_serve, wait_for_proxies
from ascend_serve.telemetry.report import GraphReport

logging.getLogger("ray.serve").setLevel(logging.WARNING)

_POLL_SECONDS = 0.2
_EVENTS_SECONDS = 2.0
_REACH_SECONDS = 10.0
_RECOVERING = "RECOVERING"
"""Serve's state (2.60) of a replica that a controller which was started anew has yet to ask: it serves meanwhile."""
_NOT_PLACED = "to be scheduled"
"""Part of what Serve 2.60 says of a replica whose placement group or actor is still pending."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a start-up is.

    Attributes:
        running: Whether the application answers.
        snapshot: What the driver of the capture group knows; ``None`` before there is one.
    """

    running: bool
    snapshot: Snapshot | None


class ServeDeployment:
    """One application on the Serve of the connected cluster.

    Args:
        config: What to serve.
        plan: What was decided about it.
        started: When the user asked for it, in seconds since the epoch.
        keys: API keys that clients may use; without one everybody may ask.
        local: Whether the cluster is this machine's alone, and is shut down when the application was stopped.

    Attributes:
        config: What to serve.
        name: Name of the application.
        answered: Whether it has answered so far.
        waiting: What Serve says of a replica that no node has room for, after half a minute; empty otherwise.
    """

    def __init__(
        self,
        config: AscendServeConfig,
        plan: DeploymentPlan,
        started: float,
        keys: Sequence[SecretStr] = (),
        *,
        local: bool = False,
    ) -> None:
        self.config = config
        self._plan = plan
        self._started = started
        self._keys = keys
        self._local = local
        self.name = config.model.name
        self._group = f"{self.name}-{uuid.uuid4().hex[:8]}"
        self._owns_serve = False
        self._deployed = False
        self.answered = False
        self.waiting = ""

    def deploy(self) -> None:
        """Ask Serve for the application; returns before it answers.

        Raises:
            ClusterError: The cluster has too few NPUs, or another application answers there.
        """
        application = build_application(
            self.config, self._plan, node_offers(), group=self._group, started=self._started, keys=self._keys
        )
        proxies = self._start_serve()
        target = serve.RunTarget(application, name=self.name, route_prefix=self.config.serving.route_prefix)
        self._deployed = True
        try:
            serve.run_many([target], wait_for_applications_running=False)
        except RayServeException as error:
            self._deployed = False
            raise ClusterError(
                f"The Ray cluster does not take the application {self.name}: {error}",
                f"Set another serving.route_prefix, for example serving.route_prefix=/{self.name}.",
            ) from error
        with self._proxies_explained():
            wait_for_proxies(proxies)
        warn_of_router(self.config.serving)

    def watch(self) -> Iterator[Progress]:
        """Yield the progress of the start-up, several times a second, until the application answers.

        Raises:
            AscendServeError: What the replica failed with.
        """
        while True:
            running = self.check()
            yield Progress(running, glance(self._group))
            if running:
                return
            time.sleep(_POLL_SECONDS)

    def check(self) -> bool:
        """Whether the application answers.

        Raises:
            AscendServeError: What the replica failed with.
            ClusterError: The application is gone.
        """
        try:
            application = serve.status().applications[self.name]
        except (RayError, RayServeException, KeyError) as error:
            raise ClusterError(
                f"The application {self.name} is gone from the Ray cluster: {error}",
                "Somebody deleted it, or the cluster went down; start again.",
            ) from error
        replica = application.deployments.get(DEPLOYMENT)
        message = replica.message if replica else application.message
        if application.status == ApplicationStatus.DEPLOY_FAILED:
            raise unmarked(message)
        self.waiting = message if _NOT_PLACED in message else ""
        running = application.status == ApplicationStatus.RUNNING or _is_being_found(replica)
        self.answered |= running
        return running

    @property
    def url(self) -> str:
        """Where clients on this machine reach it."""
        serving = self.config.serving
        scheme = "https" if "ssl_certfile" in serving.http_options else "http"
        host = LOOPBACK if serving.host in EVERYWHERE else serving.host
        return f"{scheme}://{host}:{serving.port}{serving.route_prefix.rstrip('/')}"

    def answers_http(self) -> bool:
        """Whether it answers at `url`, and HAProxy asks a replica itself.

        Proxies learn of a new application some time after it runs, and HAProxy has Serve's proxy in between until then.
        A replica whose engine is lost meanwhile answers too: it says since when it recovers.
        """
        deadline = time.monotonic() + _REACH_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                # The certificate is for the name that clients use.
                answer = httpx.get(f"{self.url}/health", trust_env=False, timeout=_REACH_SECONDS, verify=False)
                is_a_replicas = answer.is_success or "recovering_since" in answer.text
                if is_a_replicas and DETOUR not in answer.headers:
                    return True
            time.sleep(_POLL_SECONDS)
        return False

    def report(self, patience: float | None = None) -> GraphReport:
        """The report of a replica.

        Args:
            patience: Seconds to wait for it; as long as it takes when not given.

        Raises:
            TimeoutError: It did not come in that time.
        """
        asked = serve.get_deployment_handle(DEPLOYMENT, self.name).report.remote()
        report: GraphReport = asked.result(timeout_s=patience)
        return report

    def events(self) -> tuple[Event, ...]:
        """What happened to the engine of the replica that answers, oldest first; nothing while none answers."""
        with contextlib.suppress(RayError, RayServeException, TimeoutError):
            return tuple(event for event in self.report(_EVENTS_SECONDS).events if event.kind in OF_THE_ENGINE)
        return ()

    def stop(self) -> None:
        """Take the application down; requests in flight may finish.

        Serve itself goes too where it was started for it and has no other application by now. Either way Serve is told
        at once, so that the application ends even when this process is killed while it waits, as `ray job stop` does
        after 3 seconds.
        """
        # Ray reports the end of Serve's controller as an error on standard output.
        with contextlib.suppress(RayError, RayServeException), contextlib.redirect_stdout(io.StringIO()):
            others = serve.status().applications.keys() - {self.name}
            if self._owns_serve and not self._local and not others:
                serve.shutdown()
            elif self._deployed:
                self._delete()

    def _delete(self) -> None:
        """Delete the application and wait for its last request; Serve 2.60 itself gives up after a minute."""
        deadline = time.monotonic() + graceful_shutdown_seconds(self.config)
        while True:
            try:
                serve.delete(self.name)
            except TimeoutError:
                if time.monotonic() < deadline:
                    continue
            return

    def _start_serve(self) -> Sequence[ObjectRef[Any]]:
        """Start it where nobody has yet; returns the proxies that are on their way."""
        status = serve.status()
        if self.name in status.applications:
            raise ClusterError(
                f"The Ray cluster already serves an application {self.name}",
                f"Set another model.served_name, or stop it first (`serve shutdown` stops {len(status.applications)}).",
            )
        self._owns_serve = not status.proxies
        if not self._owns_serve:
            warn_if_other(self.config.serving)
            return ()
        with self._proxies_explained():
            return begin_serve(
                **start_options(self.config.serving, local=self._local),
                logging_config=LoggingConfig(log_level="WARNING"),
            )

    @contextlib.contextmanager
    def _proxies_explained(self) -> Iterator[None]:
        try:
            yield
        except (RayError, TimeoutError) as error:
            said = str(getattr(error, "cause", None) or error)
            problem = f"Ray Serve did not start its HTTP proxy: {gist(said)}"
            raise ClusterError(problem, self._where_no_proxy(said)) from error

    def _where_no_proxy(self, said: str) -> str:
        if "cannot bind socket" in said:
            return f"Another program listens on serving.port {self.config.serving.port} by now: set another one."
        return "The machine may be too busy: try again. The proxy's log is `serve/proxy_*` among the logs of Ray."


def _is_being_found(deployment: DeploymentStatusOverview | None) -> bool:
    """Whether Serve's controller was started anew and asks the replicas of a deployment now."""
    return deployment is not None and any(state == _RECOVERING for state in deployment.replica_states)
