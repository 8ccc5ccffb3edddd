"""A capture group on the simulated CANN: ranks in processes of their own, and the driver in this one.

The driver is the actor's own class without Ray's process around it: ranks reach it through pipes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from ascend_serve.capture.deadlines import Deadlines
from ascend_serve.capture.driver import CaptureDriver
from ascend_serve.capture.messages import Message
from ascend_serve.capture.outcome import IncarnationOutcome, OutcomeKind
from ascend_serve.events import Event
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import GraphRequest
from tests.npu import ranks
from tests.patience import PATIENCE_SECONDS

SIZES = (1, 2, 4, 8, 16)
REQUEST = GraphRequest(RuntimeName.ACLGRAPH, GraphMode.FULL_DECODE_ONLY, SIZES, max_num_seqs=SIZES[-1])
DEADLINES = Deadlines(join=600.0, propose=600.0, capture=600.0, seal=600.0)
"""So long that no busy machine makes the driver take a rank for hanging: one that hangs fails the test by name."""


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


Body = Callable[[int, Sequence[IncarnationOutcome], Connection, Trouble], dict[str, Any]]
"""One rank: its number, what came of the incarnations before, its end of the line to the driver, what goes wrong."""


def _member(rank: int, before: Sequence[IncarnationOutcome], link: Connection, trouble: Trouble) -> dict[str, Any]:
    # vLLM, which takes seconds to import, and which only ranks need.
    from tests.npu.member import run as run_member

    return run_member(rank, len(before), link, trouble)


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


def run(
    trouble: Trouble,
    body: Body = _member,
    request: GraphRequest = REQUEST,
    size: int = ranks.RANKS,
    patience: float = PATIENCE_SECONDS,
) -> tuple[list[IncarnationOutcome], list[Any], list[str]]:
    """A whole start: incarnations until one is sealed or all is over.

    As the executor does, it kills the ranks of an incarnation that is to be replaced, whatever they wait for.

    Returns:
        The incarnations' outcomes, what the last one's ranks saw, and all that happened, for a person.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    driver = CaptureDriver(size, request, replace(DEADLINES, capture=trouble.patience))
    outcomes: list[IncarnationOutcome] = []
    while not outcomes or outcomes[-1].kind is OutcomeKind.REPLACE:
        told = asyncio.run_coroutine_threadsafe(driver.outcome(len(outcomes)), loop)
        links = [Pipe() for _ in range(size)]
        for near, _ in links:
            threading.Thread(target=serve, args=(driver, loop, near), daemon=True).start()
        seen = _incarnation(body, [(tuple(outcomes), far, trouble) for _, far in links], told, patience)
        outcomes.append(told.result(timeout=PATIENCE_SECONDS))
    loop.call_soon_threadsafe(_stop, loop)
    return outcomes, seen, [_line(event) for event in driver.snapshot().events]


def _incarnation(
    body: Body, arguments: list[tuple[Any, Connection, Trouble]], told: Future[IncarnationOutcome], patience: float
) -> list[Any]:
    """What the ranks of one incarnation saw, or nothing when they are to be replaced."""

    def is_over() -> bool:
        return told.done() and told.result().kind is not OutcomeKind.SEALED

    try:
        return ranks.run(body, arguments, is_over, patience)
    finally:
        for _, far, _ in arguments:
            far.close()


def _line(event: Event) -> str:
    parts = (event.time, event.kind, event.rank, event.key, event.text)
    return " ".join(str(part) for part in parts if part is not None)


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
