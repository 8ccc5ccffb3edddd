"""Time of agreement and lockstep in the driver's session, against the number of ranks.

    python benchmarks/agreement.py [--keys 64] [--repeat 3]

Every simulated rank sends what a real one sends; the time is that of the session alone, in one process, without Ray.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ascend_serve.capture.deadlines import default_deadlines
from ascend_serve.capture.messages import Arrive, CaptureResult, Join, Leave, Message, Propose, Seal
from ascend_serve.capture.outcome import OutcomeKind
from ascend_serve.capture.session import Session
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import GraphRequest, Proposal

RANKS = (128, 256, 512, 1024, 4096)
RANKS_PER_NODE = 8
STAGES = 4


@dataclass(frozen=True)
class Run:
    """Seconds of one run."""

    agreement: float
    lockstep: float
    messages: int


def run(ranks: int, keys: int) -> Run:
    """Walk ``ranks`` ranks through a plan of ``keys`` graphs, to the seal."""
    sizes = tuple(8 * (position + 1) for position in range(keys))
    request = GraphRequest(RuntimeName.ACLGRAPH, GraphMode.FULL_DECODE_ONLY, sizes, max_num_seqs=sizes[-1])
    session = Session(ranks, request, default_deadlines(0))
    started = time.perf_counter()
    _hand_in(session, (Join(rank, 0, f"node-{rank // RANKS_PER_NODE}", rank) for rank in range(ranks)))
    _hand_in(session, (Propose(rank, 0, _proposal(request, rank)) for rank in range(ranks)))
    agreed = time.perf_counter()
    plan = session.plan
    assert plan is not None
    assert len(plan.keys) == keys
    for key in plan.keys:
        _hand_in(session, (Arrive(rank, 0, plan.epoch, key) for rank in range(ranks)))
        result = CaptureResult(True, 0.5, streams_used=12, streams_left=1000)
        _hand_in(session, (Leave(rank, 0, plan.epoch, key, result) for rank in range(ranks)))
    _hand_in(session, (Seal(rank, 0, plan.epoch, "digest") for rank in range(ranks)))
    ended = time.perf_counter()
    assert session.outcome is not None
    assert session.outcome.kind is OutcomeKind.SEALED
    return Run(agreed - started, ended - agreed, ranks * (2 * keys + 3))


def _proposal(request: GraphRequest, rank: int) -> Proposal:
    """What a rank of one of several pipeline stages proposes, built anew as if it had come over the network."""
    return Proposal(
        (RuntimeName.ACLGRAPH, RuntimeName.EAGER),
        request.mode,
        tuple(request.capture_sizes),
        stream_budget=100_000,
        streams_per_full=12 + rank % STAGES,
        fingerprint={"model": "a" * 64, "vllm": "0.32.0", "torch": "2.13.0", "dtype": "bfloat16"},
    )


def _hand_in(session: Session, messages: Iterable[Message]) -> None:
    for message in messages:
        session.handle(message, 0.0)


def main(
    keys: Annotated[int, typer.Option(min=1, help="Graphs in the plan.")] = 64,
    repeat: Annotated[int, typer.Option(min=1, help="Runs per number of ranks; the median counts.")] = 3,
) -> None:
    """Print one row per number of ranks."""
    table = Table(
        "ranks", "graphs", "join + propose + plan, ms", "us per rank", "lockstep to seal, s", "us per message"
    )
    for ranks in RANKS:
        runs = [run(ranks, keys) for _ in range(repeat)]
        agreement = median(one.agreement for one in runs)
        lockstep = median(one.lockstep for one in runs)
        table.add_row(
            f"{ranks}",
            f"{keys}",
            f"{agreement * 1e3:.1f}",
            f"{agreement / ranks * 1e6:.1f}",
            f"{lockstep:.2f}",
            f"{lockstep / runs[0].messages * 1e6:.1f}",
        )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
