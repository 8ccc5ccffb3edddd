"""A host to which an emulated device belongs."""

from __future__ import annotations

from dataclasses import dataclass

from ascend_serve.emulated.clock import DeviceClock


@dataclass
class Host:
    """A host whose time passes by what it does alone.

    Attributes:
        time: What its clock shows, in seconds.
        slept: Seconds for which it has slept.
    """

    time: float = 100.0
    slept: float = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.slept += seconds

    def clock(self) -> DeviceClock:
        """Of a device of this host."""
        return DeviceClock(self.now, self.sleep)
