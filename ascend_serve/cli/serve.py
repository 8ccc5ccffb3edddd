"""``ascend-serve serve``: bring a model up behind an OpenAI API and stay in the foreground."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ascend_serve.cli.arguments import ConfigPath, Overrides
from ascend_serve.cli.lifetime import owned_processes
from ascend_serve.cli.output import print_warning, stdout
from ascend_serve.cli.output import stderr as console
from ascend_serve.cli.startup import StartupProgress
from ascend_serve.cli.summary import curl_line, print_summary
from ascend_serve.cluster.token import prefer_token_authentication
from ascend_serve.config import AscendServeConfig, load
from ascend_serve.config.passthrough import check_argument_names
from ascend_serve.planning import DeploymentPlan, plan_deployment
from ascend_serve.serving.preflight import check_model, check_port

if TYPE_CHECKING:
    from ascend_serve.cluster.connect import Cluster
    from ascend_serve.serving.deployment import ServeDeployment

_WATCH_SECONDS = 2.0


def serve(
    config: ConfigPath,
    overrides: Overrides = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the logs of all processes.")] = False,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="Start Ray's dashboard with a local cluster.")] = False,
) -> None:
    """Serve a model with the OpenAI API, on the Ray cluster at RAY_ADDRESS or on a local one. Ctrl-C stops it."""
    started = time.time()
    prefer_token_authentication()
    loaded = load(config, overrides or ())
    check_model(loaded.model.path)
    check_argument_names(loaded.vllm)
    plan = None
    if not os.environ.get("RAY_ADDRESS"):
        plan = plan_deployment(loaded)
        check_port(loaded.serving.host, loaded.serving.port)
    with owned_processes() as owned, ExitStack() as stack:
        with StartupProgress(console) as progress:
            progress.enter("cluster")
            cluster = stack.enter_context(_cluster(loaded, verbose=verbose, dashboard=dashboard))
            deployment = stack.enter_context(_deployment(loaded, plan, cluster, started))
            stack.callback(owned.note_shared_memory)
            _bring_up(deployment, progress)
        _show(loaded, deployment, cluster)
        _stay(deployment)


@contextmanager
def _cluster(config: AscendServeConfig, *, verbose: bool, dashboard: bool) -> Iterator[Cluster]:
    from ascend_serve.cluster.lease import ray_cluster
    from ascend_serve.serving.environment import engine_environment

    env = engine_environment(config)
    with ray_cluster(config.emulated.npus, env=env, verbose=verbose, dashboard=dashboard) as cluster:
        if not verbose:
            console.print(f"logs: {cluster.log_directory}", markup=False)
        yield cluster


@contextmanager
def _deployment(
    config: AscendServeConfig, plan: DeploymentPlan | None, cluster: Cluster, started: float
) -> Iterator[ServeDeployment]:
    from ascend_serve.cluster.connect import node_offers
    from ascend_serve.serving.deployment import ServeDeployment

    plan = plan or plan_deployment(config, nodes=node_offers())
    deployment = ServeDeployment(config, plan, started)
    try:
        yield deployment
    finally:
        # A cluster of our own goes with all that is in it; requests in flight are worth waiting for.
        if deployment.answered or not cluster.local:
            deployment.stop(cluster_ends=cluster.local)


def _bring_up(deployment: ServeDeployment, progress: StartupProgress) -> None:
    deployment.deploy()
    progress.enter("load")
    for state in deployment.watch():
        progress.follow(state.snapshot)
    if not deployment.answers_http():
        print_warning(
            f"The application runs, but nothing answers at {deployment.url}: Serve was started with other HTTP "
            "options, or its proxies are on other nodes (`serve status`)."
        )


def _show(config: AscendServeConfig, deployment: ServeDeployment, cluster: Cluster) -> None:
    report = deployment.report()
    print_summary(stdout, report)
    stdout.print(f"[bold green]ready[/] after {report.seconds['total']:.0f} s at {deployment.url}")
    if cluster.dashboard:
        stdout.print(f"Ray dashboard: {cluster.dashboard}")
    stdout.print(curl_line(deployment.url, config.model.name), markup=False)


def _stay(deployment: ServeDeployment) -> None:
    """Wait until interrupted; tell when the application stops answering and when it answers again."""
    answers = True
    while True:
        time.sleep(_WATCH_SECONDS)
        before, answers = answers, deployment.check()
        if before and not answers:
            print_warning("The replica does not answer; Ray Serve starts another one.")
        elif answers and not before:
            stdout.print("The application answers again.")
