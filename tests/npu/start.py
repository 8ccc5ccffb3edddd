"""Starts of vllm-ascend's engine, each with as many ranks as it takes, and what came of them.

``main`` runs where vLLM 0.23.0 and vllm-ascend 0.23.0 are on the path (``vendor.py``); only the ranks import them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from ascend_serve.capture.outcome import IncarnationOutcome
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import GraphRequest
from tests.npu import forked, group, ranks
from tests.npu.group import Trouble

SIZES = (1, 2, 4, 8)
MAX_REQUESTS = 8
TOKENS = 12
PROMPTS = ["Hello", "What is this?", "a b c d e f g", "x", "The quick brown fox"]
BATCHES = (1, 3, 5)
"""Requests at a time: of a captured size, and of sizes that are padded to the next one."""

PATIENCE = 1800.0
"""Seconds for the ranks of one incarnation; they take about ten."""


@dataclass(frozen=True)
class Start:
    """One start.

    Attributes:
        model: Folder of the model.
        mode: vLLM's ``cudagraph_mode``; ``NONE`` starts with ``enforce_eager``.
        ranks: Tensor-parallel size.
        npugraph_ex: Whether vllm-ascend's npugraph_ex compiles the model.
        graphs: Streams that are left for graphs on the last rank, or ``None`` for enough.
    """

    model: str
    mode: str = "NONE"
    ranks: int = 1
    npugraph_ex: bool = True
    graphs: int | None = None

    @property
    def request(self) -> GraphRequest:
        """What the ranks are asked for."""
        return GraphRequest(RuntimeName.ACLGRAPH, GraphMode(self.mode), SIZES, max_num_seqs=MAX_REQUESTS)


def _rank(
    start: Start, rank: int, before: Sequence[IncarnationOutcome], link: Connection | None, _: Trouble | None
) -> dict[str, Any]:
    from tests.npu.engine import run as run_engine

    return run_engine(start, rank, before, link)


def report(start: Start) -> dict[str, Any]:
    """What came of a start; the driver takes part where there are graphs."""
    body = partial(_rank, start)
    if start.mode == "NONE":
        return {"ranks": ranks.run(body, [((), None, None)] * start.ranks, patience=PATIENCE)}
    outcomes, seen, events = group.run(Trouble(), body, start.request, start.ranks, PATIENCE)
    plan = outcomes[-1].plan
    return {
        "outcomes": [outcome.kind.value for outcome in outcomes],
        "reasons": [outcome.reason for outcome in outcomes],
        "planned": list(plan.capture_sizes) if plan else [],
        "ranks": seen,
        "events": events,
    }


def main() -> None:
    """Report the starts that are given by name, in JSON, one after another."""
    forked.preload("tests.npu.engine")
    starts = {name: Start(**start) for name, start in json.loads(sys.argv[1]).items()}
    print(json.dumps({name: report(start) for name, start in starts.items()}))
