"""The application as Ray Serve's own tools build it: ``serve run``, ``serve deploy`` and KubeRay's ``RayService``."""

# No `from __future__ import annotations` here: Serve reads the class of the builder's argument from its signature.

import time
import uuid
from typing import Any

from pydantic import BaseModel, ConfigDict
from ray import serve

from ascend_serve.cluster.connect import node_offers
from ascend_serve.config import load
from ascend_serve.planning import plan_deployment
from ascend_serve.serving.api_keys import api_keys
from ascend_serve.serving.application import build_application


class BuildArgs(BaseModel):
    """What Serve's ``args`` may say: the file, and dotted keys that win over it, such as ``graph.mode: FULL``.

    Attributes:
        config: The configuration file, at a path that every node has: Serve builds applications on any of them.
    """

    model_config = ConfigDict(extra="allow")

    config: str

    def overrides(self) -> dict[str, Any]:
        """The dotted keys with their values: typed in Serve's file, text from ``serve run``."""
        return dict(self.model_extra or {})


def build(args: BuildArgs) -> serve.Application:
    """Build the application, for ``import_path: ascend_serve.serving.builder:build``.

    HTTP options and the application's route prefix are in Serve's own file here.

    Raises:
        ConfigError: The configuration or the file with API keys cannot be read.
        PlanError: It cannot work.
        ClusterError: The cluster has too few NPUs for the replicas that it starts with.
    """
    config = load(args.config, args.overrides())
    group = f"{config.model.name}-{uuid.uuid4().hex[:8]}"
    nodes = node_offers()
    plan = plan_deployment(config, nodes=nodes)
    keys = api_keys(config.serving.api_key_file)
    return build_application(config, plan, nodes, group=group, started=time.time(), keys=keys)
