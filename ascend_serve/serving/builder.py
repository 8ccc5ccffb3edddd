"""Applications for Ray Serve: built in Python, or by ``serve run``, ``serve deploy`` and KubeRay's ``RayService``."""

# No `from __future__ import annotations` here: Serve reads the class of the builder's argument from its signature.

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict
from ray import serve

from ascend_serve.api.api_keys import api_keys
from ascend_serve.cluster.glance import offers_at
from ascend_serve.cluster.placement import NodeOffer
from ascend_serve.config import AscendServeConfig, load
from ascend_serve.config.layers import Source
from ascend_serve.config.overrides import Overrides
from ascend_serve.doctor.preflight import check_built_in, fetched
from ascend_serve.errors import ClusterError
from ascend_serve.planning import DeploymentPlan, plan_deployment
from ascend_serve.planning.planned_placement import described_offers
from ascend_serve.replica.application import build_application
from ascend_serve.serving.serve_run import ServeRun

logger = logging.getLogger(__name__)

_OF_THE_SERVER = {
    "host": "Serve's own HTTP options",
    "port": "Serve's own HTTP options",
    "ingress": "the environment that Ray's nodes are started with",
    "http_options": "Serve's own HTTP options",
    "route_prefix": "the route prefix that Serve is given",
}
_OF_HTTP = {
    "api_key_file": "the deployment that answers HTTP",
    "max_body_bytes": "the deployment that answers HTTP",
}


class BuildArgs(BaseModel):
    """What Serve's ``args`` may say: the configuration, and dotted keys that win over it, such as ``graph.mode: FULL``.

    Attributes:
        config: The configuration itself, or a file at a path that every node has: Serve builds applications on any.
    """

    model_config = ConfigDict(extra="allow")

    config: str | dict[str, Any]

    def overrides(self) -> dict[str, Any]:
        """The dotted keys with their values: typed in Serve's file, text from ``serve run``."""
        return dict(self.model_extra or {})


def build(args: BuildArgs) -> serve.Application:
    """Build the application, for ``import_path: ascend_serve.serving.builder:build``.

    HTTP options and the application's route prefix are in Serve's own file here. ``serve run`` calls this before it
    connects to Ray.

    Raises:
        ConfigError: The configuration or the file with API keys cannot be read.
        ModelError: It is the built-in model, but not on emulated NPUs.
        PlanError: It cannot work.
        ClusterError: There is no cluster, or it has too few NPUs for the replicas that it starts with.
    """
    command = ServeRun.current()
    if command is None:
        return _of_serves_tools(args)
    with command.refusing():
        return _of_serves_tools(args, command.address, command.runtime_env)


def build_app(config: Source | Sequence[Source], overrides: Overrides = ()) -> serve.Application:
    """Build an application that answers HTTP with the OpenAI API, for ``serve.run``.

    Where this process is not connected to Ray yet, the application is laid out for the cluster at ``RAY_ADDRESS`` or
    the one that runs on this machine, else for the machines that the configuration describes.

    Args:
        config: A path, a nested mapping, a typed configuration, or several of them: see `ascend_serve.load`.
        overrides: What wins over it, for example ``graph.mode=FULL``.

    Raises:
        ConfigError: The configuration or the file with API keys cannot be read.
        ModelError: It is the built-in model, but not on emulated NPUs.
        PlanError: It cannot work.
        ClusterError: The cluster cannot be used, or has too few NPUs for the replicas that it starts with.
    """
    loaded = load(config, overrides)
    _warn_of(loaded, _OF_THE_SERVER)
    return _application(loaded, offers_at(), http=True)


def build_deployment(config: Source | Sequence[Source], overrides: Overrides = ()) -> serve.Application:
    """Build a deployment without HTTP, to be bound into an application of your own; otherwise as `build_app`.

    Its handle has ``chat``, ``completions`` and ``embeddings``, which take the body of an OpenAI request as a
    dictionary and answer with the body of its answer. With ``"stream": true`` in the body, and
    ``handle.options(stream=True)``, the answer is a generator of chunks. An error is raised as `RequestError`.
    ``report`` answers what ``GET /graph/report`` does.
    """
    loaded = load(config, overrides)
    _warn_of(loaded, _OF_THE_SERVER | _OF_HTTP)
    return _application(loaded, offers_at(), http=False)


def _of_serves_tools(
    args: BuildArgs, address: str | None = None, runtime_env: Mapping[str, Any] | None = None
) -> serve.Application:
    config = load(args.config, args.overrides())
    _warn_of(config, _OF_THE_SERVER)
    nodes = offers_at(address)
    if nodes is None:
        raise ClusterError("No Ray cluster runs on this machine, and RAY_ADDRESS names none", _how_to_start(config))
    return _application(config, nodes, http=True, runtime_env=runtime_env)


def _application(
    config: AscendServeConfig,
    nodes: list[NodeOffer] | None,
    *,
    http: bool,
    runtime_env: Mapping[str, Any] | None = None,
) -> serve.Application:
    check_built_in(config)
    config = fetched(config)
    plan = plan_deployment(config, nodes=nodes)
    return build_application(
        config,
        plan,
        _described(config, plan) if nodes is None else nodes,
        group=f"{config.model.name}-{uuid.uuid4().hex[:8]}",
        started=time.time(),
        keys=api_keys(config.serving.api_key_file) if http else None,
        runtime_env=runtime_env,
    )


def _described(config: AscendServeConfig, plan: DeploymentPlan) -> list[NodeOffer]:
    if any(name.startswith("node:") for bundle in plan.placement.bundles for name in bundle):
        raise ClusterError(
            f"On the described machines bundles of {config.model.name} are tied to nodes, and no cluster is known yet",
            "Connect to the cluster first: call ray.init(), or set RAY_ADDRESS.",
        )
    logger.warning(
        "%s is laid out for the machines that its configuration describes: no Ray cluster is known yet. %s",
        config.model.name,
        _how_to_start(config),
    )
    return described_offers(config)


def _how_to_start(config: AscendServeConfig) -> str:
    npus = config.emulated.npus
    if npus:
        return f"""Start Ray with emulated NPUs: ray start --head --resources='{{"NPU": {npus}}}'"""
    return "Start Ray on the NPU nodes (launch/head.sh and launch/worker.sh), and set RAY_ADDRESS to HEAD:6379."


def _warn_of(config: AscendServeConfig, decided: Mapping[str, str]) -> None:
    for key in decided.keys() & config.serving.model_fields_set:
        logger.warning("serving.%s has no effect here: it is decided by %s", key, decided[key])
