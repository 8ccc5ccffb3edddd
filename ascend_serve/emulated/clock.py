"""The time that an emulated device takes: work queues up on it while the host goes on, and waits where it has to.

A forward pass computes on the host's cores at once. The clock says when a device would be done with it: an event that
was recorded behind it is not reached earlier, and nobody burns a core until then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """How long a device takes, and how long the host takes to give it work.

    Attributes:
        fixed: Seconds of any step.
        per_token: Seconds for each token of the padded batch.
        launch: Seconds that the host takes to launch one operator; a graph is launched as one.
        operators: Operators that an eager step launches; 0 for those that the model itself launches.
    """

    fixed: float = 0.0
    per_token: float = 0.0
    launch: float = 0.0
    operators: int = 0

    @classmethod
    def of(cls, milliseconds: Mapping[str, Any] | None) -> Self:
        """From ``emulated.device_time``, which is in milliseconds; no time at all where it is not set."""
        said = dict(milliseconds or {})
        operators = int(said.pop("operators", 0))
        return cls(operators=operators, **{name: value / 1e3 for name, value in said.items()})

    def __bool__(self) -> bool:
        return bool(self.fixed or self.per_token or self.launch)

    def of_step(self, num_tokens: int) -> float:
        """Seconds that the device computes for a batch padded to ``num_tokens``."""
        return self.fixed + self.per_token * num_tokens


class DeviceClock:
    """When the device will have done what it was given so far.

    Args:
        now: The host's clock, in seconds.
        sleep: Lets the host wait for some seconds.

    Attributes:
        free_at: When it will have done all that it was given, on the host's clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        self.now = now
        self._sleep = sleep
        self.free_at = 0.0

    @contextmanager
    def work(self, device_seconds: float, host_seconds: float) -> Iterator[None]:
        """Queue what the block computes; it begins when the device is free.

        Args:
            device_seconds: How long the device takes for it.
            host_seconds: How long the host takes to launch it: the block ends no earlier, nor does the device.
        """
        since = self.now()
        begins = max(since, self.free_at)
        yield
        self.wait_until(since + host_seconds)
        self.free_at = max(begins + device_seconds, self.now())

    def wait(self) -> None:
        """Wait until the device has done all that it was given."""
        self.wait_until(self.free_at)

    def wait_until(self, then: float) -> None:
        """Wait until the host's clock says ``then``."""
        seconds = then - self.now()
        if seconds > 0.0:
            self._sleep(seconds)


class DeviceEvent:
    """A place in the work of a device that the host can wait for, as ``torch.npu.Event``.

    Args:
        clock: Of the device.
    """

    def __init__(self, clock: DeviceClock) -> None:
        self._clock = clock
        self._reached_at = 0.0

    def record(self, *stream: object) -> None:
        """Put it behind all work so far; the device has one stream."""
        self._reached_at = self._clock.free_at

    def synchronize(self) -> None:
        """Wait until the device has come there."""
        self._clock.wait_until(self._reached_at)

    def query(self) -> bool:
        """Whether the device has come there."""
        return self._clock.now() >= self._reached_at


class Stream:
    """The device's one stream, as vLLM's model runners use several: work is done in the order in which it came."""

    def __init__(self, *args: object, **options: object) -> None:
        pass

    def wait_stream(self, stream: object) -> None:
        """Nothing to wait for."""

    def wait_event(self, event: object) -> None:
        """Nothing to wait for."""

    def record_event(self) -> None:
        """Nothing that a stream would wait for."""
