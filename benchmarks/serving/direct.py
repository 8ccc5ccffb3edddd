"""The engine asked directly: vLLM's application of a replica on a socket of its own, without Ray Serve around it.

``python -m benchmarks.serving.direct CONFIG [KEY=VALUE ...]`` answers on ``serving.port`` until interrupted.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import uvicorn
from ray.util.placement_group import PlacementGroup

from ascend_serve.cli.lifetime import owned_processes
from ascend_serve.config import load
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.offline import generation
from ascend_serve.offline.offline_replica import OfflineReplica
from ascend_serve.planning import DeploymentPlan


class HttpReplica(OfflineReplica):
    """The process of the engine, with a server for its application in it."""

    async def start(
        self, config: AscendServeConfig, plan: DeploymentPlan, group: str, placement_group: PlacementGroup | None
    ) -> None:
        """Bring the engine up, then the server."""
        await super().start(config, plan, group, placement_group)
        options = uvicorn.Config(
            self._engine.app, host="127.0.0.1", port=config.serving.port, lifespan="off", access_log=False
        )
        server = uvicorn.Server(options)
        self._serving = asyncio.create_task(server.serve())


def main() -> None:
    """Serve until interrupted."""
    config = load(sys.argv[1], sys.argv[2:])
    # The engine makes its actor of this class.
    generation.OfflineReplica = HttpReplica  # type: ignore[attr-defined]
    with owned_processes(), generation.Engine(config):
        signal.pause()


if __name__ == "__main__":
    from benchmarks.serving.direct import main as importable

    importable()
