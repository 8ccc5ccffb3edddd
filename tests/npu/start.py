"""Starts of vllm-ascend's engine, each with as many ranks as it takes, and what came of them.

``main`` runs where a release of vllm-ascend and its vLLM are on the path (``vendor.py``); only the ranks import them.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ascend_serve.capture.outcome import IncarnationOutcome
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import GraphRequest
from tests.npu import forked, group, ranks
from tests.npu.group import Body, Trouble

SIZES = (1, 2, 4, 8)
MAX_REQUESTS = 8
TOKENS = 12
PROMPTS = ["Hello", "What is this?", "a b c d e f g", "x", "The quick brown fox"]
BATCHES = (1, 3, 5)
"""Requests at a time: of a captured size, and of sizes that are padded to the next one."""

PATIENCE = 1800.0
"""Seconds for the ranks of one incarnation; they take about ten."""


STOPS = (
    re.compile(r"cann_sim: (\S+ is not implemented)"),
    re.compile(r"Value error, (.+) \[type=value_error"),
    re.compile(r"^([\w.]+(?:Error|Exception): .*)", re.MULTILINE),
)
"""How a start ends: the simulated CANN names the call that it lacks, vLLM refuses a setting, anything else raises."""


@dataclass(frozen=True)
class Start:
    """One start.

    Attributes:
        model: Folder of the model.
        mode: vLLM's ``cudagraph_mode``; ``NONE`` starts with ``enforce_eager``.
        ranks: All ranks; those that data and pipeline parallelism leave are tensor-parallel ones.
        pipeline: Pipeline-parallel size.
        data: Data-parallel size.
        dtype: Type of the model.
        sizes: Capture sizes, in tokens.
        query_len: Tokens per request in a decode step.
        npugraph_ex: Whether vllm-ascend's npugraph_ex compiles the model.
        graphs: Streams that are left for graphs on the last rank, or ``None`` for enough.
        arguments: Further arguments of vLLM's ``LLM``.
    """

    model: str
    mode: str = "NONE"
    ranks: int = 1
    pipeline: int = 1
    data: int = 1
    dtype: str = "float32"
    sizes: Sequence[int] = SIZES
    query_len: int = 1
    npugraph_ex: bool = True
    graphs: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tensor(self) -> int:
        """Tensor-parallel size."""
        return self.ranks // (self.pipeline * self.data)

    @property
    def request(self) -> GraphRequest:
        """What the ranks are asked for."""
        return GraphRequest(
            RuntimeName.ACLGRAPH,
            GraphMode(self.mode),
            tuple(self.sizes),
            max_num_seqs=MAX_REQUESTS,
            decode_query_len=self.query_len,
        )


def _rank(
    start: Start,
    folder: str,
    rank: int,
    before: Sequence[IncarnationOutcome],
    link: Connection | None,
    _: Trouble | None,
) -> dict[str, Any]:
    os.dup2(os.open(Path(folder) / str(rank), os.O_WRONLY | os.O_CREAT | os.O_APPEND), sys.stderr.fileno())
    from tests.npu.engine import run as run_engine

    return run_engine(start, rank, before, link)


def report(start: Start) -> dict[str, Any]:
    """What came of a start, or what stopped it; the driver takes part where there are graphs."""
    with TemporaryDirectory() as folder:
        try:
            return _report(start, partial(_rank, start, folder))
        except AssertionError as error:
            said = "".join(path.read_text(errors="replace") for path in sorted(Path(folder).iterdir()))
            said = f"{said}\n{error}"
            named = next((found[-1] for stop in STOPS if (found := stop.findall(said))), str(error).strip())
            return {"stopped": named, "said": said}


def _report(start: Start, body: Body) -> dict[str, Any]:
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
