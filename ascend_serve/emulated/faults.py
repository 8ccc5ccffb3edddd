"""Scripted faults: which rank fails when, and how."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from ascend_serve.config.schema import FaultConfig, FaultError
from ascend_serve.emulated import device_errors

SLOW_SECONDS = 5.0
"""How long a ``slow`` rank sleeps before it goes on."""

OPERATORS_BEFORE_FAULT = 2
"""Operators that a capture fault lets through, so that it strikes a graph that holds something."""


class FaultScript:
    """The faults of one rank. Each strikes once in a process, of which it strikes as many as it says.

    Args:
        faults: Faults of all ranks, as ``config.schema.FaultConfig`` or as plain mappings.
        rank: The rank whose faults these are.
        incarnation: Processes that the rank has had before this one.
    """

    def __init__(
        self, faults: Sequence[FaultConfig | Mapping[str, Any]] = (), rank: int = 0, incarnation: int = 0
    ) -> None:
        parsed = (FaultConfig.model_validate(fault) for fault in faults)
        self._waiting = [
            fault for fault in parsed if fault.rank == rank and 0 <= incarnation - fault.incarnation < fault.processes
        ]

    def strike(self, phase: str, size: int | None = None) -> None:
        """Let the fault of this phase and capture size happen, if one waits.

        Raises:
            RuntimeError: As the device would.
            torch.OutOfMemoryError: As the device would.
        """
        fault = self._take(phase, size, lambda error: True)
        if fault is not None:
            inflict(fault)

    def strike_capture_begin(self, size: int) -> None:
        """Let a capture fault happen that the device reports before anything is recorded."""
        fault = self._take("capture", size, lambda error: error in _AT_CAPTURE_BEGIN)
        if fault is not None:
            inflict(fault)

    def during_capture(self, size: int) -> CaptureFault | None:
        """A mode that strikes in the middle of the recording, if a fault waits for this capture size."""
        fault = self._take("capture", size, lambda error: error not in _AT_CAPTURE_BEGIN)
        return None if fault is None else CaptureFault(fault)

    def _take(self, phase: str, size: int | None, wanted: Callable[[FaultError], bool]) -> FaultConfig | None:
        for fault in self._waiting:
            if fault.phase == phase and fault.size in (None, size) and wanted(fault.error):
                self._waiting.remove(fault)
                return fault
        return None


class CaptureFault(TorchDispatchMode):
    """Lets a few operators through to the recorder, then strikes."""

    def __init__(self, fault: FaultConfig) -> None:
        super().__init__()
        self._fault = fault
        self._seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Pass the operator on, or strike in its place."""
        if self._seen == OPERATORS_BEFORE_FAULT:
            self._seen += 1
            inflict(self._fault)
        self._seen += 1
        return func(*args, **(kwargs or {}))


def inflict(fault: FaultConfig) -> None:
    """Fail as ``fault`` says: raise the device's error, hang, crash, or lose time.

    Raises:
        RuntimeError: As the device would.
        torch.OutOfMemoryError: As the device would.
    """
    _EFFECTS[fault.error](fault)


def _raise(make_error: Callable[[int], Exception]) -> Callable[[FaultConfig], None]:
    def effect(fault: FaultConfig) -> None:
        raise make_error(fault.rank)

    return effect


def _hang(_fault: FaultConfig) -> None:
    while True:
        time.sleep(3600)


def _crash(fault: FaultConfig) -> None:
    os.kill(os.getpid(), signal.Signals[fault.signal])


def _slow(_fault: FaultConfig) -> None:
    time.sleep(SLOW_SECONDS)


_AT_CAPTURE_BEGIN = frozenset({FaultError.STREAM_EXHAUSTED, FaultError.OLD_HDK})

_EFFECTS: dict[FaultError, Callable[[FaultConfig], None]] = {
    FaultError.STREAM_EXHAUSTED: _raise(device_errors.stream_exhausted),
    FaultError.OLD_HDK: _raise(device_errors.old_hdk),
    FaultError.NOT_CAPTURABLE: _raise(lambda rank: device_errors.not_capturable(rank, "aclnnMaskedSelect")),
    FaultError.OUT_OF_MEMORY: _raise(device_errors.out_of_memory),
    FaultError.DEVICE_FAULT: _raise(device_errors.device_fault),
    FaultError.UNKNOWN: _raise(device_errors.unknown),
    FaultError.HANG: _hang,
    FaultError.CRASH: _crash,
    FaultError.SLOW: _slow,
}
