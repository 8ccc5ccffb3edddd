"""The driver: one Ray actor per capture group, a thin shell around the session.

Ranks ask it questions and wait; executors tell it of lost workers and wait for outcomes; whoever serves reads
snapshots. It takes no part in any collective, so a group whose ranks disagree never needs one to find out.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

from ascend_serve.capture.deadlines import Deadlines
from ascend_serve.capture.messages import Compiling, Lost, Message, Question, Verdict
from ascend_serve.capture.outcome import Delivery, IncarnationOutcome, OutcomeKind
from ascend_serve.capture.session import Session
from ascend_serve.capture.snapshot import Snapshot, SnapshotFold
from ascend_serve.capture.state import State
from ascend_serve.errors import CaptureError
from ascend_serve.events import Event
from ascend_serve.graph.plan import CapturePlan, GraphRequest
from ascend_serve.graph.ranks import name_ranks

_MOST_EVENTS = 5_000
"""How many of the latest events a driver keeps; what all of them came to it knows without."""

_SILENT = "cannot even tell where: stopped (`kill -CONT` lets a process go on), held up by the device, or cut off"
"""What is said of a rank that stands still as its peers do and, other than they, does not say so itself."""


class CaptureDriver:
    """Holds the session of one capture group and its waiting questions.

    Args:
        ranks: Number of ranks over DP x PP x TP.
        request: What the configuration asks for.
        deadlines: How long each meeting point may take.
        remembered: The plan that worked at the last start, when its fingerprint still holds.
        incarnation: How many sets of workers the ranks had before, in groups that came before.
    """

    def __init__(
        self,
        ranks: int,
        request: GraphRequest,
        deadlines: Deadlines,
        remembered: CapturePlan | None = None,
        *,
        incarnation: int = 0,
    ) -> None:
        self._ranks = ranks
        self._deadlines = deadlines
        self._known = SnapshotFold()
        self._events: deque[Event] = deque(maxlen=_MOST_EVENTS)
        self._told = 0
        self._session = Session(ranks, request, deadlines, remembered=remembered, incarnation=incarnation)
        self._questions: dict[int, asyncio.Future[Verdict]] = {}
        self._outcomes: dict[int, IncarnationOutcome] = {}
        self._places: dict[int, str] = {}
        self._changed = asyncio.Condition()
        self._clock: asyncio.Task[None] | None = None

    async def ask(self, question: Question) -> Verdict:
        """Hand in a rank's question and wait for its verdict."""
        self._start_clock()
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._questions[id(question)] = verdict
        await self._handle(question)
        return await verdict

    async def tell(self, message: Lost | Compiling) -> None:
        """Take note of a lost rank, or of one that compiles."""
        await self._handle(message)

    async def outcome(self, incarnation: int) -> IncarnationOutcome:
        """Wait until the session of ``incarnation`` has ended, and tell how."""
        self._start_clock()
        async with self._changed:
            await self._changed.wait_for(lambda: incarnation in self._outcomes)
        return self._outcomes[incarnation]

    async def abort(self) -> IncarnationOutcome:
        """Wait until the session is aborted, and tell why: this actor ends with the engine core that started it."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._session.state is State.ABORTED)
        outcome = self._session.outcome
        assert outcome is not None
        return outcome

    async def loss(self) -> str:
        """Wait until the sealed group has lost a rank, and tell which, where and how."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._failed_outcome() is not None)
        outcome = self._failed_outcome()
        return outcome.reason if outcome is not None else ""

    def note_place(self, rank: int, place: str) -> None:
        """Take note of where a rank stands still; ``place`` is empty when it goes on."""
        self._places[rank] = self._session.meeting.places[rank] = place

    def standstill(self) -> str:
        """Which ranks stand still, and where: first those that cannot even tell, for whom the others wait."""
        places = {rank: place for rank, place in sorted(self._places.items()) if place}
        nodes = {rank: self._known.roster.node(rank) for rank in range(self._ranks)}
        told = [f"{name_ranks([rank], nodes)} stands {place}" for rank, place in places.items()]
        silent = [rank for rank in range(self._ranks) if rank not in places]
        if not told or not silent:
            return "; ".join(told)
        return f"{name_ranks(silent, nodes)} {_SILENT}; meanwhile {'; '.join(told)}"

    def _failed_outcome(self) -> IncarnationOutcome | None:
        outcome = self._session.outcome
        return None if outcome is None or outcome.kind is OutcomeKind.SEALED else outcome

    async def reopen(self, request: GraphRequest) -> None:
        """Begin another session of the same processes, for other sizes; graphs that it wants again stay.

        Raises:
            CaptureError: The session before has not been sealed.
        """
        before = self._session
        if before.outcome is None or before.outcome.kind is not OutcomeKind.SEALED or before.plan is None:
            raise CaptureError("The capture group has no sealed plan to start from")
        self._outcomes.pop(before.incarnation)
        self._session = Session(
            self._ranks, request, self._deadlines, incarnation=before.incarnation, held=before.plan.keys
        )
        async with self._changed:
            self._changed.notify_all()

    def snapshot(self) -> Snapshot:
        """What is known about the group now, for progress."""
        return self._known.snapshot(self._events)

    async def events(self, after: int, *, wait: bool = True) -> tuple[int, list[Event]]:
        """What happened after so many events.

        Args:
            after: How many the caller knows.
            wait: Whether to wait until there are more.

        Returns:
            How many there were in all, and those of them that the caller does not know and this driver still keeps.
        """
        self._start_clock()
        async with self._changed:
            await self._changed.wait_for(lambda: self._told > after or not wait)
        fresh = min(self._told - after, len(self._events))
        return self._told, list(self._events)[len(self._events) - fresh :]

    def _start_clock(self) -> None:
        # An actor's constructor runs outside of its event loop, so the first call starts the clock.
        if self._clock is None:
            self._clock = asyncio.get_running_loop().create_task(self._watch_deadlines())

    async def _handle(self, message: Message) -> None:
        await self._deliver(self._session.handle(message, time.monotonic()))

    async def _deliver(self, answers: list[Delivery]) -> None:
        self._take_events()
        for answer in answers:
            # The caller of ``ask`` may be gone; its question holds on to the id until it is answered.
            verdict = self._questions.pop(id(answer.question), None)
            if verdict is not None and not verdict.done():
                verdict.set_result(answer.verdict)
        async with self._changed:
            outcome = self._session.outcome
            if outcome is not None:
                self._outcomes[outcome.incarnation] = outcome
            self._changed.notify_all()

    def _take_events(self) -> None:
        """Keep what the session tells, in seconds since the epoch instead of on its clock."""
        epoch_time = time.time() - time.monotonic()
        for event in self._session.events:
            dated = event.model_copy(update={"time": round(epoch_time + event.time, 3)})
            self._known.add(dated)
            self._events.append(dated)
        self._told += len(self._session.events)
        self._session.events.clear()

    async def _watch_deadlines(self) -> None:
        while True:
            await self._sleep_until_due()
            await self._deliver(self._session.tick(time.monotonic()))

    async def _sleep_until_due(self) -> None:
        due = self._session.next_deadline
        delay = None if due is None else max(0.0, due - time.monotonic())
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait(), delay)
            except TimeoutError:
                return
