"""Serves replicas that answer without a model, in the foreground; Ctrl-C stops it.

``python -m benchmarks.ingress_scale.server PORT REPLICAS STEP_SECONDS INGRESS``; with 0 replicas the application
answers by itself, without Ray Serve.
"""

from __future__ import annotations

import signal
import sys

import uvicorn
from ray import serve

from ascend_serve.cli.lifetime import owned_processes
from ascend_serve.cluster.local import local_cluster
from ascend_serve.config.schema import Ingress, ServingConfig
from ascend_serve.serving.ingress import start_options
from benchmarks.ingress_scale.replica import FixedReplica, fixed_application

_UNLIMITED = 2**31 - 1
"""As for a replica with an engine, whose scheduler queues requests itself."""


def serve_replicas(serving: ServingConfig, replicas: int, step_seconds: float) -> None:
    """Serve behind the ingress until interrupted."""
    with owned_processes(), local_cluster(1, env={}):
        serve.start(**start_options(serving, local=True), logging_config={"log_level": "WARNING"})
        options = {"num_cpus": 0}
        deployment = serve.deployment(
            FixedReplica, num_replicas=replicas, max_ongoing_requests=_UNLIMITED, ray_actor_options=options
        )
        serve.run(deployment.bind(step_seconds))
        signal.pause()


def main() -> None:
    """Serve until interrupted."""
    port, replicas, step_seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    if replicas:
        serve_replicas(ServingConfig(port=port, ingress=Ingress(sys.argv[4])), replicas, step_seconds)
    else:
        uvicorn.run(fixed_application(step_seconds), host="127.0.0.1", port=port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
