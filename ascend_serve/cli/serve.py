"""``ascend-serve serve``: bring a model up behind an OpenAI API and stay in the foreground."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import SecretStr

from ascend_serve.api.api_keys import api_keys
from ascend_serve.cli.arguments import ConfigPath, Dashboard, ModelsAndOverrides, Verbose, load_models
from ascend_serve.cli.failure_record import FailureRecord
from ascend_serve.cli.lifetime import Ending, owned_processes
from ascend_serve.cli.output import print_warning, stdout
from ascend_serve.cli.output import stderr as console
from ascend_serve.cli.startup import StartupProgress
from ascend_serve.cli.summary import curl_line, print_summary
from ascend_serve.cluster.token import prefer_token_authentication
from ascend_serve.config import AscendServeConfig
from ascend_serve.doctor.preflight import behind_one_server, check_here, check_port, fetched
from ascend_serve.node.ports import kept_port
from ascend_serve.planning import DeploymentPlan, plan_deployment
from ascend_serve.replica.vllm_import import check_vllm

if TYPE_CHECKING:
    from ascend_serve.cluster.connect import Cluster
    from ascend_serve.events import Event
    from ascend_serve.serving.serve_deployment import ServeDeployment

_WATCH_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Model:
    """One model that is to be served.

    Attributes:
        config: Its configuration.
        keys: API keys that clients may use.
        plan: What was decided about it; on a cluster that is given, that needs the cluster's nodes.
    """

    config: AscendServeConfig
    keys: tuple[SecretStr, ...]
    plan: DeploymentPlan | None

    @classmethod
    def of(cls, config: AscendServeConfig) -> _Model:
        return cls(config, api_keys(config.serving.api_key_file), None if _given() else plan_deployment(config))


def serve(
    config: ConfigPath,
    overrides: ModelsAndOverrides = None,
    verbose: Verbose = False,
    dashboard: Dashboard = False,
) -> None:
    """Serve models with the OpenAI API, on the Ray cluster at RAY_ADDRESS or on a local one. Ctrl-C stops it."""
    started = time.time()
    prefer_token_authentication()
    configs = behind_one_server(load_models(config, overrides))
    check_here(configs, given=_given())
    if not _given():
        check_port(configs[0].serving.host, configs[0].serving.port)
    served = [_Model.of(fetched(each)) for each in configs]
    if not _given():
        check_vllm()
    record = FailureRecord(configs[0], started)
    with owned_processes() as ending, record.of_errors(), ExitStack() as stack:
        if not _given():
            stack.enter_context(kept_port(configs[0].serving.host, configs[0].serving.port))
        with StartupProgress(console) as progress:
            progress.enter("cluster")
            cluster = stack.enter_context(_cluster(configs, record, verbose=verbose, dashboard=dashboard))
        deployments = [stack.enter_context(_deployment(model, cluster, started, ending)) for model in served]
        for deployment in deployments:
            deployment.deploy()
        for model, deployment in zip(served, deployments, strict=True):
            record.config = model.config
            _bring_up(deployment)
            _show(model, deployment, cluster)
        record.begin_to_serve(cluster)
        _stay(deployments, record)


def _given() -> bool:
    return bool(os.environ.get("RAY_ADDRESS"))


@contextmanager
def _cluster(
    configs: Sequence[AscendServeConfig], record: FailureRecord, *, verbose: bool, dashboard: bool
) -> Iterator[Cluster]:
    from ascend_serve.cluster.lease import ray_cluster
    from ascend_serve.replica.process_environment import engine_environment

    npus = sum(config.emulated.npus for config in configs)
    env = engine_environment(configs[0])
    with ray_cluster(npus, env=env, verbose=verbose, dashboard=dashboard, on_loss=record.end_at_once) as cluster:
        record.ray_logs = cluster.log_directory
        if not verbose:
            console.print(f"logs: {cluster.log_directory}", markup=False)
        yield cluster


@contextmanager
def _deployment(model: _Model, cluster: Cluster, started: float, ending: Ending) -> Iterator[ServeDeployment]:
    from ascend_serve.cluster.connect import node_offers
    from ascend_serve.serving.serve_deployment import ServeDeployment

    plan = model.plan or plan_deployment(model.config, nodes=node_offers())
    deployment = ServeDeployment(model.config, plan, started, model.keys, local=cluster.local)
    try:
        yield deployment
    finally:
        # A cluster of our own goes with all that is in it; requests in flight are worth waiting for.
        if deployment.answered or not cluster.local:
            with ending.hurried():
                deployment.stop()


def _bring_up(deployment: ServeDeployment) -> None:
    said = ""
    with StartupProgress(console) as progress:
        progress.enter("load")
        for state in deployment.watch():
            progress.follow(state.snapshot)
            if deployment.waiting and not said:
                said = deployment.waiting
                print_warning(f"No node has room for a replica of {deployment.name} now; it waits. Serve says: {said}")
    if not deployment.answers_http():
        print_warning(
            f"The application runs, but nothing answers at {deployment.url}: Serve was started with other HTTP "
            "options, or its proxies are on other nodes (`serve status`)."
        )


def _show(model: _Model, deployment: ServeDeployment, cluster: Cluster) -> None:
    report = deployment.report()
    print_summary(stdout, report)
    stdout.print(f"[bold green]ready[/] after {report.seconds['total']:.0f} s at {deployment.url}")
    if cluster.dashboard:
        stdout.print(f"Ray dashboard: {cluster.dashboard}")
    line = curl_line(deployment.url, model.config.model.name, key=bool(model.keys))
    stdout.print(line, markup=False)


def _stay(deployments: Sequence[ServeDeployment], record: FailureRecord) -> None:
    """Wait until interrupted; tell what happens to engines and replicas, and when an application begins to answer."""
    from ascend_serve.serving.replica_watch import ReplicaWatch

    answers = dict.fromkeys(deployments, True)
    replicas = {deployment: ReplicaWatch(deployment.name) for deployment in deployments}
    told: set[tuple[str, Event]] = set()
    while True:
        for deployment, before in answers.items():
            for end in replicas[deployment].ended():
                print_warning(f"{deployment.name}: replica ended: {record.of_replica(deployment.config, end)}")
            _tell(deployment, told)
            answers[deployment] = deployment.check()
            if before and not answers[deployment]:
                print_warning(f"No replica of {deployment.name} answers; Ray Serve starts another one.")
            elif answers[deployment] and not before:
                stdout.print(f"{deployment.name} answers again.")
        time.sleep(_WATCH_SECONDS)


def _tell(deployment: ServeDeployment, told: set[tuple[str, Event]]) -> None:
    """Tell what happened to the engine of a deployment, once each."""
    for event in deployment.events():
        if (deployment.name, event) in told:
            continue
        told.add((deployment.name, event))
        text = f"{deployment.name}: {event.kind.replace('_', ' ')}: {event.text}"
        if event.kind == "engine_restarted":
            stdout.print(text, markup=False)
        else:
            print_warning(text)
