"""A capture group on the simulated CANN: ranks in processes of their own, and the driver in this one.

The driver is the actor's own class without Ray's process around it: ranks reach it through pipes.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from ascend_serve.capture.deadlines import Deadlines
from ascend_serve.capture.driver import CaptureDriver
from ascend_serve.capture.messages import Compiling, Message, Phase, Question, Verdict
from ascend_serve.capture.outcome import Outcome, OutcomeKind
from ascend_serve.capture.participant import Participant
from ascend_serve.engine.canary import Canary
from ascend_serve.engine.worker import WorkerSession
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import GraphRequest, Proposal
from tests.cann_sim import control
from tests.npu import ranks
from tests.npu.decoder import MAX_REQUESTS, Decoder
from tests.npu.decoder_host import DecoderHost, fixed_batch
from tests.npu.forked import PATIENCE

SIZES = (1, 2, 4, 8, 16)
BATCHES = (1, 3, 4, 7, 16)
STEPS = 6
REQUEST = GraphRequest(RuntimeName.ACLGRAPH, GraphMode.FULL_DECODE_ONLY, SIZES, max_num_seqs=MAX_REQUESTS)
DEADLINES = Deadlines(join=600.0, propose=600.0, capture=600.0, seal=600.0)
"""So long that no busy machine makes the driver take a rank for hanging: one that hangs fails the test by name."""


class PipeLink:
    """A rank's line to its driver."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def ask(self, question: Question) -> Verdict:
        self._pipe.send(question)
        verdict: Verdict = self._pipe.recv()
        return verdict

    def tell(self, message: Compiling) -> None:
        raise AssertionError(f"nothing compiles here: {message}")


class DecoderSession(WorkerSession):
    """The worker's own session, on the decoder instead of vLLM's runner."""

    def __init__(self, participant: Participant, host: DecoderHost, canary: Canary) -> None:
        self._participant = participant
        self._seam: Any = host
        self._canary = canary
        self._worker: Any = self
        self._phase = Phase.JOIN

    def compile_or_warm_up_model(self) -> str:
        """What vLLM's worker has of this name."""
        self._seam.capture_model()
        return "warm"

    def _proposal(self) -> Proposal:
        return Proposal((RuntimeName.ACLGRAPH, RuntimeName.EAGER), GraphMode.FULL_DECODE_ONLY, SIZES)


@dataclass(frozen=True)
class Trouble:
    """What goes wrong on rank 1.

    Attributes:
        graphs: Streams that are left for graphs, or ``None`` for enough.
        script: Faults by call, counted from the beginning of the session; in the first incarnation only.
        patience: Seconds for one graph, after which the driver takes a rank for hanging.
    """

    graphs: int | None = None
    script: str = ""
    patience: float = DEADLINES.capture


def rank_body(rank: int, incarnation: int, link: Connection, trouble: Trouble) -> dict[str, Any]:
    """One rank from its first step to its last: session, then the same tokens with replay and without."""
    decoder = Decoder(rank, ranks.RANKS)
    host, canary = DecoderHost(decoder), Canary(lambda: fixed_batch(decoder))
    canary.take()
    _take_own_streams()
    participant = Participant(PipeLink(link), rank, incarnation, "here", os.getpid())
    if rank == 1 and trouble.graphs is not None:
        control.library().cann_sim_set_stream_quota(control.streams_taken(rank) + trouble.graphs)
    if rank == 1 and incarnation == 0:
        control.library().cann_sim_set_faults(trouble.script.encode())
    result = DecoderSession(participant, host, canary).run(())
    if participant.has_ended:
        return {}
    return {
        "result": result,
        "held": sorted(key.num_tokens for key in host.held()),
        "replayed": [host.generate(batch, STEPS, replay=True) for batch in BATCHES],
        "eager": [host.generate(batch, STEPS, replay=False) for batch in BATCHES],
    }


def _take_own_streams() -> None:
    """Let torch_npu take the streams that it takes once: for HCCL, for captures."""
    import torch

    graph, x = torch.npu.NPUGraph(), torch.ones(1).npu()
    with torch.npu.graph(graph):
        x.add_(1)
    graph.reset()


def serve(driver: CaptureDriver, loop: asyncio.AbstractEventLoop, pipe: Connection) -> None:
    """Answer one rank until it is gone."""
    try:
        while True:
            message: Message = pipe.recv()
            asyncio.run_coroutine_threadsafe(_answer(driver, message, pipe), loop)
    except (EOFError, OSError):
        return


async def _answer(driver: CaptureDriver, message: Any, pipe: Connection) -> None:
    pipe.send(await driver.ask(message))


def run(trouble: Trouble) -> tuple[list[Outcome], list[Any], list[str]]:
    """A whole start: incarnations until one is sealed or all is over.

    As the executor does, it kills the ranks of an incarnation that is to be replaced, whatever they wait for.

    Returns:
        The incarnations' outcomes, what the last one's ranks saw, and all that happened, for a person.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    driver = CaptureDriver("group", ranks.RANKS, REQUEST, replace(DEADLINES, capture=trouble.patience))
    outcomes: list[Outcome] = []
    while not outcomes or outcomes[-1].kind is OutcomeKind.REPLACE:
        told = asyncio.run_coroutine_threadsafe(driver.outcome(len(outcomes)), loop)
        seen = _incarnation(len(outcomes), trouble, driver, loop, told)
        outcomes.append(told.result(timeout=PATIENCE))
    loop.call_soon_threadsafe(_stop, loop)
    return outcomes, seen, [_line(event) for event in driver.snapshot()["events"]]


def _incarnation(
    number: int, trouble: Trouble, driver: CaptureDriver, loop: asyncio.AbstractEventLoop, told: Future[Outcome]
) -> list[Any]:
    """What the ranks of one incarnation saw, or nothing when they are to be replaced."""
    links = [Pipe() for _ in range(ranks.RANKS)]
    for near, _ in links:
        threading.Thread(target=serve, args=(driver, loop, near), daemon=True).start()
    try:
        return ranks.run(
            rank_body,
            [(number, far, trouble) for _, far in links],
            is_over=lambda: told.done() and told.result().kind is not OutcomeKind.SEALED,
        )
    finally:
        for _, far in links:
            far.close()


def _line(event: dict[str, Any]) -> str:
    return " ".join(str(event[part]) for part in ("time", "kind", "rank", "key", "text") if event[part] is not None)


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.call_soon(loop.stop)


def report(trouble: Trouble) -> dict[str, Any]:
    """What came of a start."""
    outcomes, seen, events = run(trouble)
    first, second = seen
    return {
        "outcomes": [outcome.kind.value for outcome in outcomes],
        "reasons": [outcome.reason for outcome in outcomes],
        "planned": list(outcomes[-1].plan.capture_sizes) if outcomes[-1].plan else [],
        "held": [first["held"], second["held"]],
        "ranks agree": first["replayed"] == second["replayed"],
        "equals eager": [rank["replayed"] == rank["eager"] for rank in seen],
        "tokens": first["eager"],
        "events": events,
    }
