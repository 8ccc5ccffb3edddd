"""Engines one after the other, each on the spares of the one before, whose weights these hold.

``python -m tests.integration.replacements FOLDER OVERRIDE ...`` serves the model in ``FOLDER`` and prints what came of
each engine, a line of JSON. Before the second one starts the weights are moved away; before the third they are back,
with another time.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.integration.engines import ROOT, Scenario, configuration, engine_config, generate, start_cluster

MARK = "REPLACEMENT "
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Outcome:
    """What came of one engine.

    Attributes:
        tokens: Of requests that were decoded together.
        from_host: For each rank whether it copied its weights from the memory of the host.
        bytes: For each rank the bytes that it holds.
        held_by_spares: Bytes that its spares came to hold.
    """

    tokens: list[list[int]]
    from_host: list[bool]
    bytes: list[int]
    held_by_spares: int


def run(folder: Path, *overrides: str) -> list[Outcome]:
    """Run them in a process of its own."""
    env = {**os.environ, "ASCEND_SERVE_EMULATED_NPU": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    command = [sys.executable, "-m", "tests.integration.replacements", str(folder), *overrides]
    process = subprocess.run(
        command, cwd=ROOT, env={**env, "RAY_AUTH_MODE": "token"}, text=True, stdout=subprocess.PIPE, check=False
    )
    sys.stderr.write(process.stdout)
    assert process.returncode == 0
    lines = [line.removeprefix(MARK) for line in process.stdout.splitlines() if line.startswith(MARK)]
    return [Outcome(**json.loads(line)) for line in lines]


def main(folder: Path, overrides: Sequence[str]) -> None:
    """Start the engines."""
    import ray

    from ascend_serve.replica.spares import Spares

    config = configuration(Scenario("", (f"model.path={folder}", *overrides)))
    start_cluster(config.parallel.world_size)
    placement_group = ray.util.placement_group([{"NPU": 1}] * config.parallel.world_size)
    ray.get(placement_group.ready())
    spares, weights, away = Spares(placement_group), folder / WEIGHTS, folder / "away"
    try:
        _serve(config, 0, placement_group, spares)
        weights.rename(away)
        _serve(config, 1, placement_group, spares)
        away.rename(weights)
        weights.touch()
        _serve(config, 2, placement_group, spares)
    finally:
        spares.end()
        ray.shutdown()


def _serve(config: Any, number: int, placement_group: Any, spares: Any) -> None:
    """Start an engine on the spares of the one before, generate, and leave spares to the next one."""
    from vllm.v1.engine.llm_engine import LLMEngine

    from ascend_serve.engine.weight_source import RankWeights

    vllm_config = engine_config(config, f"engine-{number}", placement_group, holds_weights=True)
    engine = LLMEngine.from_vllm_config(vllm_config)
    (told,) = engine.collective_rpc("rank_weights")
    ranks = [RankWeights.model_validate(rank) for rank in told]
    tokens = generate(engine, 3, 12)

    async def leave_to_next() -> None:
        worker_class = vllm_config.parallel_config.worker_cls
        keeping = asyncio.create_task(spares.keep(f"engine-{number + 1}", worker_class, ranks))
        while spares.number < len(ranks):
            await asyncio.sleep(0.1)
        keeping.cancel()

    asyncio.run(leave_to_next())
    held = [rank.source.bytes if rank.source else 0 for rank in ranks]
    outcome = Outcome(tokens, [rank.from_host for rank in ranks], held, spares.held_bytes)
    engine.engine_core.shutdown()
    spares.hand_over()
    print(f"\n{MARK}{json.dumps(asdict(outcome))}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
