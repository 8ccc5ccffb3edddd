"""Bringing the application up on a cluster, watching it, and taking it down."""

from __future__ import annotations

import contextlib
import io
import logging
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus, LoggingConfig

from ascend_serve.capture.driver import find_drivers
from ascend_serve.cluster.connect import node_offers
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.errors import ClusterError
from ascend_serve.planning import DeploymentPlan
from ascend_serve.serving.application import DEPLOYMENT, build_application
from ascend_serve.serving.start_failure import unmarked
from ascend_serve.telemetry.report import GraphReport

logging.getLogger("ray.serve").setLevel(logging.WARNING)

_POLL_SECONDS = 0.2
_REACH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a start-up is.

    Attributes:
        running: Whether the application answers.
        snapshot: What the driver of the capture group knows; empty before there is one.
    """

    running: bool
    snapshot: dict[str, Any]


class ServeDeployment:
    """One application on the Serve of the connected cluster.

    Args:
        config: What to serve.
        plan: What was decided about it.
        started: When the user asked for it, in seconds since the epoch.

    Attributes:
        name: Name of the application.
        answered: Whether it has answered so far.
    """

    def __init__(self, config: AscendServeConfig, plan: DeploymentPlan, started: float) -> None:
        self._config = config
        self._plan = plan
        self._started = started
        self.name = config.model.name
        self._group = f"{self.name}-{uuid.uuid4().hex[:8]}"
        self._owns_serve = False
        self.answered = False

    def deploy(self) -> None:
        """Ask Serve for the application; returns before it answers.

        Raises:
            ClusterError: The cluster has too few NPUs, or another application answers there.
        """
        application = build_application(
            self._config, self._plan, node_offers(), group=self._group, started=self._started
        )
        self._start_serve()
        serve.run_many(
            [serve.RunTarget(application, name=self.name, route_prefix="/")], wait_for_applications_running=False
        )

    def watch(self) -> Iterator[Progress]:
        """Yield the progress of the start-up, several times a second, until the application answers.

        Raises:
            AscendServeError: What the replica failed with.
        """
        while True:
            running = self.check()
            yield Progress(running, self._snapshot())
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
        if application.status == ApplicationStatus.DEPLOY_FAILED:
            replica = application.deployments.get(DEPLOYMENT)
            raise unmarked(replica.message if replica else application.message)
        running = application.status == ApplicationStatus.RUNNING
        self.answered |= running
        return running

    @property
    def url(self) -> str:
        """Where clients on this machine reach it."""
        serving = self._config.serving
        host = "127.0.0.1" if serving.host in ("0.0.0.0", "::") else serving.host
        return f"http://{host}:{serving.port}"

    def answers_http(self) -> bool:
        """Whether it answers at `url`; Serve's proxies learn of a new application some time after it runs."""
        deadline = time.monotonic() + _REACH_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health", trust_env=False, timeout=_REACH_SECONDS).is_success:
                    return True
            time.sleep(_POLL_SECONDS)
        return False

    def report(self) -> GraphReport:
        """The report of a replica."""
        report: GraphReport = serve.get_deployment_handle(DEPLOYMENT, self.name).report.remote().result()
        return report

    def stop(self, *, cluster_ends: bool) -> None:
        """Take the application down; requests in flight may finish.

        Serve itself goes too where it was started for it. Either way Serve is told with the first call, so that the
        application ends even when this process is killed while it waits, as `ray job stop` does after 3 seconds.

        Args:
            cluster_ends: Whether the cluster is shut down next, and Serve with it.
        """
        # Ray reports the end of Serve's controller as an error on standard output.
        with contextlib.suppress(RayError, RayServeException), contextlib.redirect_stdout(io.StringIO()):
            if cluster_ends or not self._owns_serve:
                serve.delete(self.name)
            else:
                serve.shutdown()

    def _start_serve(self) -> None:
        status = serve.status()
        if status.applications:
            raise ClusterError(
                f"The Ray cluster already serves {', '.join(status.applications)}",
                "Stop it first (`serve shutdown`), or use another cluster.",
            )
        self._owns_serve = not status.proxies
        serving = self._config.serving
        serve.start(
            http_options={"host": serving.host, "port": serving.port},
            logging_config=LoggingConfig(log_level="WARNING"),
        )

    def _snapshot(self) -> dict[str, Any]:
        for driver in find_drivers(self._group):
            with contextlib.suppress(RayError):
                snapshot: dict[str, Any] = ray.get(driver.snapshot.remote(), timeout=_POLL_SECONDS * 10)
                return snapshot
        return {}
