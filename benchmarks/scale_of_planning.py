"""Time of planning a deployment for thousands of NPUs: the decisions, and where the replicas go.

``python -m benchmarks.scale_of_planning`` plans Qwen3-235B-A22B, TP 8, on 8 NPUs a node, without hardware.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from ascend_serve.cluster.placement import NodeOffer
from ascend_serve.config import load
from ascend_serve.planning import plan_deployment
from ascend_serve.replica.reservation import Reservation

CONFIG = Path(__file__).parents[1] / "configs" / "qwen3-235b-a22b.yaml"
OVERRIDES = ("parallel.tensor_parallel_size=8", "parallel.pipeline_parallel_size=1", "parallel.data_parallel_size=1")
REPLICAS = (1, 16, 64, 512)
NPUS = 8
REPEAT = 3


def seconds(replicas: int) -> tuple[float, float]:
    """Seconds to plan a replica, and to find room for all of them."""
    config = load(CONFIG, list(OVERRIDES))
    nodes = [NodeOffer(f"{number:056x}", f"10.0.{number // 256}.{number % 256}", NPUS) for number in range(replicas)]
    began = time.perf_counter()
    plan_deployment(config, nodes=nodes)
    planned = time.perf_counter()
    Reservation.of(config.parallel, nodes, replicas=replicas)
    return planned - began, time.perf_counter() - planned


def main() -> None:
    """Print one row per number of replicas."""
    table = Table("replicas", "NPUs", "plan, ms", "room for all, ms")
    for replicas in REPLICAS:
        runs = [seconds(replicas) for _ in range(REPEAT)]
        values = [f"{median(run[part] for run in runs) * 1e3:.1f}" for part in (0, 1)]
        table.add_row(str(replicas), str(replicas * NPUS), *values)
    Console().print(table)


if __name__ == "__main__":
    main()
