"""Scripted faults: when they strike, and what they do."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
import torch

from ascend_serve.config.schema import FaultConfig, FaultError
from ascend_serve.emulated import faults
from ascend_serve.emulated.faults import FaultScript, inflict
from ascend_serve.emulated.npu_graph import NPUGraph, graph
from tests.patience import PATIENCE_SECONDS

UNKNOWN_AT_8 = {"rank": 1, "phase": "warmup", "size": 8, "error": "unknown"}
IN_THE_SECOND = {"rank": 1, "phase": "join", "error": "unknown", "incarnation": 2, "processes": 2}
IN_THREE = {"rank": 1, "phase": "seal", "error": "unknown", "processes": 3}


def strikes(script: FaultScript, phase: str, size: int | None) -> bool:
    try:
        script.strike(phase, size)
    except RuntimeError:
        return True
    return False


@pytest.mark.parametrize(
    ("rank", "incarnation", "phase", "size", "expected"),
    [
        pytest.param(1, 0, "warmup", 8, True, id="as scripted"),
        pytest.param(0, 0, "warmup", 8, False, id="another rank"),
        pytest.param(1, 0, "capture", 8, False, id="another phase"),
        pytest.param(1, 0, "warmup", 4, False, id="another size"),
        pytest.param(1, 1, "warmup", 8, False, id="a fresh process after a failure"),
        pytest.param(1, 2, "seal", None, True, id="the last of three processes"),
        pytest.param(1, 3, "seal", None, False, id="the fourth of three processes"),
        pytest.param(1, 1, "join", None, False, id="before the incarnation"),
        pytest.param(1, 2, "join", None, True, id="the incarnation"),
        pytest.param(1, 3, "join", None, True, id="the one after it"),
        pytest.param(1, 4, "join", None, False, id="the third of two after it"),
    ],
)
def test_a_fault_strikes_where_it_is_scripted(
    rank: int, incarnation: int, phase: str, size: int, expected: bool
) -> None:
    assert strikes(FaultScript([UNKNOWN_AT_8, IN_THREE, IN_THE_SECOND], rank, incarnation), phase, size) is expected


def test_a_fault_strikes_once() -> None:
    script = FaultScript([UNKNOWN_AT_8], rank=1)
    assert [strikes(script, "warmup", 8) for _ in range(3)] == [True, False, False]


def test_a_fault_without_size_strikes_at_the_first() -> None:
    script = FaultScript([FaultConfig(rank=0, phase="serve", error=FaultError.UNKNOWN)])
    assert [strikes(script, "serve", size) for size in (None, 4)] == [True, False]


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (FaultError.STREAM_EXHAUSTED, RuntimeError, r"(?s)207008.*stream resources are insufficient"),
        (FaultError.OLD_HDK, RuntimeError, r"Alloc sq cq fail"),
        (FaultError.NOT_CAPTURABLE, RuntimeError, r"(?s)107027.*stream is captured"),
        (FaultError.OUT_OF_MEMORY, torch.OutOfMemoryError, r"NPU out of memory\. Tried to allocate"),
        (FaultError.DEVICE_FAULT, RuntimeError, r"(?s)507015.*aicore exception"),
        (FaultError.UNKNOWN, RuntimeError, r"NPU function error"),
    ],
)
def test_errors_are_the_device_s_own(error: FaultError, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        inflict(FaultConfig(rank=0, phase="serve", error=error))


def test_a_slow_rank_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("ascend_serve.emulated.faults.time.sleep", slept.append)
    inflict(FaultConfig(rank=0, phase="serve", error=FaultError.SLOW))
    assert slept == [faults.SLOW_SECONDS]


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        pytest.param({"error": "crash"}, -signal.SIGKILL, id="killed"),
        pytest.param({"error": "crash", "signal": "SIGILL"}, -signal.SIGILL, id="another signal"),
        pytest.param({"error": "hang"}, None, id="hangs"),
    ],
)
def test_a_rank_crashes_or_hangs(fault: dict[str, str], outcome: int | None) -> None:
    whole = {"rank": 0, "phase": "seal", **fault}
    source = (
        "from ascend_serve.config.schema import FaultConfig; from ascend_serve.emulated.faults import inflict; "
        f"print('ready', flush=True); inflict(FaultConfig(**{whole}))"
    )
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            ended: int | None = process.wait(timeout=2 if outcome is None else PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            ended = None
            process.kill()
    assert ended == outcome


@pytest.mark.parametrize("error", sorted(set(FaultError) - {"hang", "crash", "slow"}))
def test_a_capture_fault_strikes_at_the_begin_or_in_the_middle(error: str) -> None:
    script = FaultScript([{"rank": 0, "phase": "capture", "size": 4, "error": error}])
    at_begin = error in ("stream_exhausted", "old_hdk")
    if at_begin:
        with pytest.raises(RuntimeError, match="capture_begin"):
            script.strike_capture_begin(4)
    mode = script.during_capture(4)
    assert (mode is None) == at_begin
    if mode is not None:
        assert _operators_before(mode) == faults.OPERATORS_BEFORE_FAULT


def _operators_before(mode: faults.CaptureFault) -> int:
    """Operators that went into the graph before the fault."""
    x = torch.ones(1)
    done: list[torch.Tensor] = []
    with pytest.raises((RuntimeError, torch.OutOfMemoryError)), graph(NPUGraph()), mode:
        done.extend(operator(x) for operator in (torch.neg, torch.abs, torch.exp, torch.sin))
    return len(done)


def test_no_fault_no_mode() -> None:
    assert FaultScript().during_capture(4) is None
