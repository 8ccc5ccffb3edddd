"""Takes the events of a capture session over from its driver, which ends with its engine, into the replica's log."""

from __future__ import annotations

import asyncio
import contextlib

from ray.exceptions import RayActorError, RayError

from ascend_serve.capture.client import DriverClient
from ascend_serve.telemetry.event_log import EventLog

_FIND_SECONDS = 0.2
_CATCH_UP_SECONDS = 2.0


class SessionFollower:
    """Follows the driver of one capture group.

    Args:
        group: Name of the group.
        events: Where its events go.
    """

    def __init__(self, group: str, events: EventLog) -> None:
        self._group = group
        self._events = events
        self._known = 0

    async def follow(self) -> None:
        """Take events over as they happen, until the driver is gone."""
        while (driver := DriverClient.find(self._group)) is None:
            await asyncio.sleep(_FIND_SECONDS)
        with contextlib.suppress(RayActorError):
            while True:
                await self._take(driver, wait=True)

    async def catch_up(self) -> None:
        """Take over what has happened by now, as far as the driver tells it at once."""
        driver = DriverClient.find(self._group)
        if driver is not None:
            with contextlib.suppress(TimeoutError, RayError):
                await asyncio.wait_for(self._take(driver, wait=False), _CATCH_UP_SECONDS)

    async def _take(self, driver: DriverClient, *, wait: bool) -> None:
        count, events = await driver.events(self._known, wait=wait)
        # Whoever asked at the same time may have taken some of them.
        fresh = count - self._known
        if fresh > 0:
            self._known = count
            self._events.append(*events[-fresh:])
