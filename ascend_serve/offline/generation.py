"""Offline generation on the same engine as serving, without a port.

import ascend_serve

with ascend_serve.Engine.from_config("configs/demo.yaml", ["graph.mode=FULL"]) as engine:
    for answer in engine.generate(["Hello", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8}]):
        print(answer.text)

In a notebook, ``start()`` and ``close()`` take the place of the ``with`` block.
"""

from __future__ import annotations

import atexit
import contextlib
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import ExitStack
from itertools import cycle
from types import TracebackType
from typing import Any, Self

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from ascend_serve.capture.client import glance
from ascend_serve.capture.snapshot import Snapshot
from ascend_serve.cluster.connect import Cluster, node_offers
from ascend_serve.cluster.lease import is_given, ray_cluster
from ascend_serve.cluster.placement import NPU, counted
from ascend_serve.cluster.watch import OnLoss
from ascend_serve.config import AscendServeConfig, load
from ascend_serve.config.layers import Source
from ascend_serve.config.overrides import Overrides
from ascend_serve.doctor.preflight import check_here, fetched
from ascend_serve.errors import AscendServeError, ClusterError, ConfigError, EngineError
from ascend_serve.offline.batch_lines import CHAT, COMPLETIONS
from ascend_serve.offline.offline_replica import Answer, OfflineReplica
from ascend_serve.offline.tenancy import lose, tenancy
from ascend_serve.planning import DeploymentPlan, plan_deployment
from ascend_serve.replica.last_will import LastWill, newest_logs
from ascend_serve.replica.process_environment import engine_environment
from ascend_serve.replica.reservation import Reservation
from ascend_serve.replica.vllm_import import check_vllm
from ascend_serve.telemetry.report import GraphReport

Request = str | Mapping[str, Any]
"""A prompt, the body of a completions request (``prompt``) or of a chat request (``messages``), or any other request of
the API as OpenAI's batches have it: ``url`` and ``body``."""

Follow = Callable[[Snapshot | None], None]
"""Takes the snapshots of the capture session while the engine starts."""

_IN_FLIGHT = 1024
"""Requests handed to the engine at a time: more than its scheduler runs, few enough to keep memory small."""

_PLACEMENT_SECONDS = 60.0
_SHUTDOWN_SECONDS = 30.0
_POLL_SECONDS = 0.2
_LOOK_SECONDS = 0.5
_LOSS_SECONDS = 2.0
"""How long it takes at most until the loss of a cluster is known."""


class Engine:
    """An engine for offline generation. Use it as a context manager, made by `Engine.from_config`.

    It runs on the Ray cluster that this process is connected to, else on the one at ``RAY_ADDRESS``, else on a local
    one. Several engines may be open at a time, as far as the cluster has NPUs for them. All of its methods wait; where
    an event loop runs, ``asyncio.to_thread`` keeps it going meanwhile.

    Args:
        config: What to run.
        engines: How many times the model is loaded, each time on NPUs of its own; requests go to each in turn, and what
            is said of the engine here holds for all of them.
        verbose: Whether the logs of all processes are shown.
        follow: What to tell the progress of the start-up.
        on_loss: What to do at once, in a thread of its own, when the cluster is lost. The methods raise that anyway.

    Attributes:
        cluster: The Ray cluster it runs on, inside the context.

    Raises:
        ConfigError: ``config`` is not a typed configuration.
        ModelError: The model has an id, and cannot be downloaded.
        PlanError: The deployment cannot work; on a given cluster that is found when the engine starts.
    """

    cluster: Cluster

    def __init__(
        self,
        config: AscendServeConfig,
        *,
        engines: int = 1,
        verbose: bool = False,
        follow: Follow | None = None,
        on_loss: OnLoss | None = None,
    ) -> None:
        if not isinstance(config, AscendServeConfig):
            raise ConfigError(
                f"Engine takes an AscendServeConfig, not {config!r}", "Use Engine.from_config(...) for everything else."
            )
        self._config = config = fetched(config)
        self._follow = follow
        self._plan = None if is_given() else plan_deployment(config)
        self._group = f"{config.model.name}-{uuid.uuid4().hex[:8]}"
        self._engines = engines
        self._verbose = verbose
        self._on_loss = on_loss
        self._lost: ClusterError | None = None
        self._resources = ExitStack()
        self._replicas: tuple[ActorHandle, ...] = ()

    @classmethod
    def from_config(
        cls,
        source: Source | Sequence[Source],
        overrides: Overrides = (),
        *,
        engines: int = 1,
        verbose: bool = False,
    ) -> Self:
        """Read a configuration as ``ascend-serve`` does; nothing is started yet.

        Args:
            source: The path of a YAML file, a nested mapping, or anything else that `ascend_serve.load` takes.
            overrides: ``key=value``, one or several, or a mapping of dotted keys to values.
            engines: How many times the model is loaded.
            verbose: Whether the logs of all processes are shown.

        Raises:
            ConfigError: The configuration cannot be read or asks for something impossible.
            PlanError: The deployment cannot work; on a given cluster that is found when the context is entered.
        """
        return cls(load(source, overrides), engines=engines, verbose=verbose)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> Self:
        """Load the model on all ranks and capture its graphs.

        Raises:
            ModelError: There is no model at ``model.path``, or it cannot be read.
            MachineError: This machine lacks what a local cluster needs.
            ClusterError: The cluster cannot be reached, or is too small.
            CaptureError: Capture failed and the configuration does not allow to go on.
            EngineError: The engine did not start, for another reason; or it runs already.
        """
        name = self._config.model.name
        if self._replicas:
            raise EngineError(f"The engine of {name} runs already", "Use it as it is, or call close() first.")
        check_here([self._config], given=is_given())
        if self._plan is not None:
            check_vllm()
        with ExitStack() as resources:
            env = engine_environment(self._config)
            cluster = ray_cluster(self._config.emulated.npus, env=env, verbose=self._verbose, on_loss=lose)
            npus = self._engines * self._config.parallel.world_size
            self.cluster = resources.enter_context(tenancy(name, npus, cluster, self._lose))
            plan = self._plan or plan_deployment(self._config, nodes=node_offers())
            replicas = self._start_all(plan, resources)
            self._resources = resources.pop_all()
        self._replicas = replicas
        # A notebook may end without close(); what was started must not outlive it.
        atexit.register(self.close)
        return self

    def _start_all(self, plan: DeploymentPlan, resources: ExitStack) -> tuple[ActorHandle, ...]:
        """Start all engines side by side, and follow the first."""
        groups = [self._group if number == 0 else f"{self._group}-{number}" for number in range(self._engines)]
        replicas, starting = [], []
        for name in groups:
            group, reservation = resources.enter_context(self._placed(name))
            replicas.append(_replica(self._config, group))
            resources.callback(self._stop, replicas[-1])
            starting.append(replicas[-1].start.remote(self._config, plan, name, reservation.for_ranks(group)))
        while self._follow and ray.wait(starting, num_returns=len(starting), timeout=_POLL_SECONDS)[1]:
            self._follow(glance(self._group))
        for started in starting:
            self._result(started)
        return tuple(replicas)

    def close(self) -> None:
        """End the engine, and the local cluster with the last engine on it. Closing twice does nothing."""
        atexit.unregister(self.close)
        self._replicas = ()
        self._resources.close()

    def generate(self, requests: Request | Iterable[Request]) -> list[Answer]:
        """Answer all requests, in their order. A request that cannot be answered has its reason in `Answer.error`.

        Args:
            requests: Prompts, or bodies of requests; a single one need not be in a list.

        Raises:
            EngineError: The engine died, or does not run.
            TypeError: A request is neither a prompt nor a body.
        """
        return list(self.answers(requests))

    def answers(self, requests: Request | Iterable[Request]) -> Iterator[Answer]:
        """As `generate`, one answer after the other; requests are read as there is room for them.

        Raises:
            EngineError: The engine died, or does not run.
            TypeError: A request is neither a prompt nor a body.
        """
        replicas = self._running()
        pending: deque[Any] = deque()
        each = [requests] if isinstance(requests, str | Mapping) else requests
        for request, replica in zip(each, cycle(replicas), strict=False):
            pending.append(replica.answer.remote(*_call(request)))
            if len(pending) >= _IN_FLIGHT * len(replicas):
                yield self._result(pending.popleft())
        while pending:
            yield self._result(pending.popleft())

    def report(self) -> GraphReport:
        """What was asked of graph mode, what holds, and why they differ; of the first of several engines."""
        report: GraphReport = self._result(self._running()[0].report.remote())
        return report

    def reports(self) -> list[GraphReport]:
        """The report of each engine."""
        asked = [replica.report.remote() for replica in self._running()]
        return [self._result(reference) for reference in asked]

    @contextlib.contextmanager
    def _placed(self, name: str) -> Iterator[tuple[PlacementGroup, Reservation]]:
        """The NPUs of the ranks, and a core for the replica in the first bundle."""
        reservation = Reservation.of(self._config.parallel, node_offers(), self._engines)
        group = placement_group(list(reservation.bundles), strategy=reservation.strategy, name=name)
        try:
            if not group.wait(_PLACEMENT_SECONDS):
                raise ClusterError(
                    f"The cluster has {counted(self._config.parallel.world_size, 'NPU')} and a CPU for the engine, but "
                    f"they are not free after {_PLACEMENT_SECONDS:.0f} s; {_holders(name)}",
                    "Stop what holds them, or wait for it. `ray status` shows how much is in use.",
                )
            yield group, reservation
        finally:
            # A cluster that is lost answers nobody.
            if self._lost is None:
                remove_placement_group(group)

    def _stop(self, replica: ActorHandle) -> None:
        if self._lost is not None:
            return
        with contextlib.suppress(RayError):
            ray.get(replica.shutdown.remote(), timeout=_SHUTDOWN_SECONDS)
        ray.kill(replica)

    def _lose(self, error: ClusterError) -> None:
        logs = newest_logs(self.cluster.log_directory)
        LastWill(self._config).of_error(error, None, what="The cluster of the engine was lost", logs=logs)
        self._lost = error
        if self._on_loss is not None:
            self._on_loss(error)

    def _result(self, reference: Any) -> Any:
        """The result of a call to the replica, or the error that a user can act on."""
        # Ray itself would wait for ever for a cluster that is lost.
        answer = reference.future()
        while not wait([answer], timeout=_LOOK_SECONDS).done:
            self._raise_loss()
        try:
            return answer.result()
        except RayActorError as error:
            # With a cluster its processes end, and who watches the cluster looks later than Ray does.
            time.sleep(_LOSS_SECONDS)
            self._raise_loss()
            lost = EngineError(f"The engine died: {error}", "Its logs are among Ray's; start it again.")
            logs = newest_logs(self.cluster.log_directory)
            raise LastWill(self._config).of_error(lost, None, what="The engine was lost", logs=logs) from error
        except RayTaskError as error:
            if isinstance(error.cause, AscendServeError):
                raise error.cause from None
            raise

    def _raise_loss(self) -> None:
        if self._lost is not None:
            raise self._lost

    def _running(self) -> tuple[ActorHandle, ...]:
        if not self._replicas:
            raise EngineError(
                f"The engine of {self._config.model.name} does not run",
                "Use it inside `with ascend_serve.Engine.from_config(...) as engine:`, or call start() first.",
            )
        return self._replicas


def _call(request: Request) -> tuple[str, dict[str, Any]]:
    """Path and body of a request."""
    if isinstance(request, str):
        return COMPLETIONS, {"prompt": request}
    if isinstance(request, Mapping) and "url" in request and isinstance(request.get("body"), Mapping):
        return str(request["url"]), dict(request["body"])
    if isinstance(request, Mapping):
        return CHAT if "messages" in request else COMPLETIONS, dict(request)
    raise TypeError(f"a request is a prompt, or a mapping with prompt or messages, not {request!r}")


def _holders(name: str) -> str:
    """The placement groups of others that hold NPUs, by name."""
    others = [
        group["name"] or group["placement_group_id"]
        for group in placement_group_table().values()
        if group["name"] != name and group["state"] == "CREATED" and any(NPU in b for b in group["bundles"].values())
    ]
    return f"held by {', '.join(sorted(others))}" if others else "no placement group holds them"


def _replica(config: AscendServeConfig, group: PlacementGroup) -> ActorHandle:
    strategy = PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=0)
    return (
        ray.remote(OfflineReplica)
        .options(
            num_cpus=1,
            max_concurrency=2 * _IN_FLIGHT,
            scheduling_strategy=strategy,
            runtime_env={"env_vars": engine_environment(config)},
        )
        .remote()
    )
