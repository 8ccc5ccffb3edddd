"""An engine's front end with nothing under way, for tests of what else happens when the engine is lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


class NoRequests:
    """Stands in for `engine.open_requests.OpenRequests`."""

    is_holding = False

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def fail(self, requests: Iterable[Any], refusal: str = "") -> None:
        """Nothing to end."""
        assert not list(requests)


class NoTurns:
    """Stands in for `engine.turns.Turns`: nobody waits."""

    def close(self) -> None:
        """Let nobody in."""

    def open(self) -> None:
        """Let everybody in."""


async def stop_reading() -> None:
    """Nothing to read."""
