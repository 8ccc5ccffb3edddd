"""The application as Ray Serve's own tools build it: ``serve run``, ``serve deploy`` and KubeRay's ``RayService``."""

# No `from __future__ import annotations` here: Serve reads the class of the builder's argument from its signature.

import time
import uuid

from pydantic import BaseModel, ConfigDict
from ray import serve

from ascend_serve.cluster.connect import node_offers
from ascend_serve.config import load
from ascend_serve.planning import plan_deployment
from ascend_serve.serving.application import build_application


class BuildArgs(BaseModel):
    """What Serve's ``args`` may say.

    Attributes:
        config: The configuration file, at a path that every node has.
        overrides: ``key=value`` that win over the file.
    """

    model_config = ConfigDict(extra="forbid")

    config: str
    overrides: list[str] = []


def build(args: BuildArgs) -> serve.Application:
    """Build the application, for ``import_path: ascend_serve.serving.builder:build``.

    HTTP address and port are Serve's here, not ``serving.host`` and ``serving.port``.

    Raises:
        ConfigError: The configuration cannot be read.
        PlanError: It cannot work.
        ClusterError: The cluster has too few NPUs for one replica.
    """
    config = load(args.config, args.overrides)
    group = f"{config.model.name}-{uuid.uuid4().hex[:8]}"
    nodes = node_offers()
    plan = plan_deployment(config, nodes=nodes)
    return build_application(config, plan, nodes, group=group, started=time.time())
