"""Replanning while serving: capture sizes follow the load that is counted, at idle moments."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ascend_serve.events import Recaptured
from ascend_serve.graph.replan import better_sizes, one_at_a_time
from ascend_serve.planning import DeploymentPlan
from ascend_serve.telemetry.event_log import EventLog

if TYPE_CHECKING:
    from ascend_serve.engine.async_llm import ServedLLM

logger = logging.getLogger(__name__)

_PERIOD_SECONDS = 5.0
_IDLE_POLL_SECONDS = 0.05
_LEAST_STEPS = 200
"""Decode steps that say something about a load."""


class Replanner:
    """Counts decode batch sizes and lets the group capture better ones.

    Args:
        llm: The engine.
        plan: What the deployment was planned to do.
        saving: Padding waste that other sizes must save.
        events: Where it is told.

    Attributes:
        is_capturing: Whether the ranks capture just now.
    """

    def __init__(self, llm: ServedLLM, plan: DeploymentPlan, saving: float, events: EventLog) -> None:
        self._llm = llm
        unit = plan.capture.multiple_of
        self._candidates = range(unit, plan.capture.largest_batch + 1, unit)
        self._saving = saving
        self._events = events
        self._seen: Counter[int] = Counter()
        self.is_capturing = False

    async def steps(self) -> tuple[dict[int, int], dict[int, int]]:
        """Steps since the start by their tokens: uniform decodes, and all others."""
        counts: tuple[dict[int, int], dict[int, int]] = (await self._llm.collective_rpc("step_histogram"))[0]
        return counts

    async def watch(self, current: tuple[int, ...], before_change: Callable[[], Awaitable[None]]) -> None:
        """Replan whenever it is worth it, until cancelled.

        Args:
            current: Sizes that are captured now, ascending, in tokens.
            before_change: Takes note of what was counted while a plan held that is about to change.
        """
        while True:
            await asyncio.sleep(_PERIOD_SECONDS)
            wanted = await self._better(current)
            if wanted is not None:
                logger.warning("Capturing sizes %s instead of %s: they fit the load better", wanted, current)
                before, current = current, await self._recapture(current, wanted, before_change)
                self._tell(before, current)

    def _tell(self, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        text = f"{' '.join(map(str, after))} instead of {' '.join(map(str, before))}: they fit the load better"
        incarnation = self._events.story.group.incarnation
        self._events.append(
            Recaptured(time=time.time(), incarnation=incarnation, text=text, before=before, after=after)
        )

    async def _better(self, current: tuple[int, ...]) -> tuple[int, ...] | None:
        decode, _ = await self.steps()
        counts = Counter(decode)
        fresh = counts - self._seen
        if fresh.total() < _LEAST_STEPS:
            return None
        self._seen = counts
        return better_sizes(current, self._candidates, fresh, self._saving)

    async def _recapture(
        self, current: tuple[int, ...], wanted: tuple[int, ...], before_change: Callable[[], Awaitable[None]]
    ) -> tuple[int, ...]:
        """Go there one graph at a time, each at an idle moment: a request that arrives waits for one at most."""
        for sizes in one_at_a_time(current, wanted):
            while self._llm.is_busy:
                await asyncio.sleep(_IDLE_POLL_SECONDS)
            await before_change()
            self.is_capturing = True
            try:
                current = tuple((await self._llm.collective_rpc("recapture", args=(sizes,)))[0])
            finally:
                self.is_capturing = False
        return current
