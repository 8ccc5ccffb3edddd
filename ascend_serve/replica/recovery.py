"""What becomes of requests under way when the engine of a replica is lost, and another one takes its place."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ascend_serve.config.schema import LostRequests
from ascend_serve.replica.suspicion import groups, judge
from ascend_serve.telemetry.metrics import LostRequest, ReplicaMetrics

if TYPE_CHECKING:
    from ascend_serve.engine.async_llm import ServedLLM
    from ascend_serve.engine.open_requests import OpenRequest

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.02

_REFUSAL = (
    "The engine was lost each time it came to this request, which is not tried again. What was known of it is in the "
    "log of the server."
)


class Recovery:
    """Keeps the requests of one front end over the loss of its engine core.

    Args:
        llm: The engine.
        requests: What is to become of them.
        metrics: Where they are counted.
    """

    def __init__(self, llm: ServedLLM, requests: LostRequests, metrics: ReplicaMetrics) -> None:
        self._llm = llm
        self._open = llm.open_requests
        self._metrics = metrics
        self._open.is_holding = requests is LostRequests.CONTINUE
        self._given_up: list[OpenRequest] = []
        self._lost_at = 0.0
        self._handing_over: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether all requests that were kept have got on."""
        return self._handing_over is None or self._handing_over.done()

    async def lose(self) -> None:
        """Keep what was under way on an engine that is lost, or end it; again for what came meanwhile."""
        # Whose turn came before the next engine has got what it goes on with would be sent there twice.
        self._llm.turns.close()
        await self._stop()
        await self._llm.stop_reading()
        if not self._open.is_holding:
            self._fail(self._open)
            return
        for request in self._open:
            if (obstacle := self._open.obstacle(request, self._llm.vllm_config)) is not None:
                logger.warning("Request %s ends with its engine: %s", request.name, obstacle)
                self._fail([request])
        given_up = judge(self._on_engine(), lambda request: self._open.count(request) or 0)
        self._given_up.extend(given_up)

    def fail(self) -> None:
        """End all of them: no engine takes the place of the one that is lost."""
        self._open.is_holding = False
        self._fail(self._open)
        self._llm.turns.open()

    def begin_to_hand_over(self, lost_at: float) -> str:
        """Let the requests go on, on an engine that can answer.

        Args:
            lost_at: When the engine before was lost, on the monotonic clock.

        Returns:
            What becomes of them, for a person.
        """
        self._lost_at = lost_at
        given_up = {request.name for request in self._given_up}
        self._open.fail(self._given_up, _REFUSAL)
        self._metrics.lost(LostRequest.GIVEN_UP, len(given_up))
        self._given_up.clear()
        left = [request for request in self._on_engine() if request.name not in given_up]
        self._llm.turns.open()
        self._handing_over = asyncio.create_task(self._hand_over(left))
        kinds = Counter(self._kind(request) for request in left) + Counter({LostRequest.GIVEN_UP: len(given_up)})
        return ", ".join(f"{number} {kind.value}" for kind, number in kinds.items())

    def stop(self) -> None:
        """Hand over no more."""
        if self._handing_over is not None:
            self._handing_over.cancel()

    def _on_engine(self) -> list[OpenRequest]:
        """All that an engine has got: the others wait for their turn, or go on from another replica, in time."""
        begun = (request for request in self._open if not request.is_replayed)
        return [request for request in begun if not self._llm.turns.is_waiting(request.name)]

    async def _stop(self) -> None:
        self.stop()
        if self._handing_over is not None:
            await asyncio.wait((self._handing_over,))

    def _fail(self, requests: Iterable[OpenRequest]) -> None:
        failed = list(requests)
        self._open.fail(failed)
        self._metrics.lost(LostRequest.FAILED, len(failed))

    def _kind(self, request: OpenRequest) -> LostRequest:
        return LostRequest.CONTINUED if self._open.count(request) else LostRequest.RETRIED

    async def _hand_over(self, requests: list[OpenRequest]) -> None:
        for group in groups(requests):
            there = [request for request in group if self._open.count(request) is not None]
            for request in there:
                request.is_alone = request.is_suspect and len(group) == 1
                await self._hand_over_one(request)
            await self._until_under_way(there)

    async def _hand_over_one(self, request: OpenRequest) -> None:
        kind = self._kind(request)
        try:
            await self._llm.hand_over(request)
        except Exception:
            logger.exception("Request %s cannot be handed over", request.name)
            self._fail([request])
        else:
            self._metrics.lost(kind)

    async def _until_under_way(self, requests: list[OpenRequest]) -> None:
        """Wait until each has got a token, or has ended."""
        waiting = requests
        while waiting:
            await asyncio.sleep(_POLL_SECONDS)
            got_on = [request for request in waiting if self._open.count(request) != request.tokens_then]
            for _ in got_on:
                self._metrics.went_on(time.monotonic() - self._lost_at)
            waiting = [request for request in waiting if request not in got_on]
