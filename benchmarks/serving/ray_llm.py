"""Serves a model with Ray Serve LLM (Ray 2.60.0) on a cluster of its own, in the foreground; Ctrl-C stops it.

``python -m benchmarks.serving.ray_llm MODEL NAME PORT ENGINE_ARGUMENTS``; run by ``benchmarks.serving`` in the
environment that ``make bench-peers`` makes. Its settings for speed are in the environment: they are read on import.
"""

from __future__ import annotations

import json
import sys

import ray
from ray import serve
from ray.serve.llm import LLMConfig, build_openai_app

LOGICAL_CPUS = 16
"""Room for the actors of Ray Serve and for a bundle for each worker; nothing is pinned to them."""


def main(model: str, name: str, port: int, engine_arguments: str) -> None:
    """Serve until interrupted."""
    ray.init(address="local", num_cpus=LOGICAL_CPUS, include_dashboard=False, log_to_driver=False)
    config = LLMConfig(
        model_loading_config={"model_id": name, "model_source": model},
        accelerator_config={"kind": "cpu"},
        deployment_config={"autoscaling_config": {"min_replicas": 1, "max_replicas": 1}},
        engine_kwargs=json.loads(engine_arguments),
        log_engine_metrics=False,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(build_openai_app({"llm_configs": [config]}), blocking=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
