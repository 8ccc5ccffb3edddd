"""What torch_npu 2.13 does on the simulated CANN, and where the emulated NPU does something else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_NO_GRAPH = ["RuntimeError"]


def _refused(code: int) -> dict[str, Any]:
    """A capture that an operation spoils: ``capture_end`` fails in its turn; later, all is as before."""
    return {"error": ["RuntimeError 507903", f"RuntimeError {code}"], "replay": _NO_GRAPH, "eager": None}


TORCH_NPU: dict[str, Any] = {
    "nothing runs at capture": 0.0,
    "views are not written at capture": [[0.0, 0.0], [0.0, 0.0]],
    "outputs are computed at capture": False,
    "every replay computes anew": [1.0, 2.0, 3.0],
    "replay reads what inputs hold now": [[3.0, 3.0], [11.0, 11.0]],
    "outputs keep their addresses": True,
    "intermediates alive outside are rewritten": [[10.0, 10.0], [11.0, 11.0]],
    "numbers of the host are taken by value": [3.0, 3.0],
    "graphs replay in any order": [[3.0, 3.0], [11.0, 11.0], [3.0, 3.0]],
    "an output feeds the next graph of the pool": [[80.0, 80.0], True],
    "graphs have pools of their own": True,
    "pool before a capture": _NO_GRAPH,
    "replay before a capture": _NO_GRAPH,
    "capture end without a begin": _NO_GRAPH,
    "unknown capture error mode": ["RuntimeError"],
    "a second capture without reset": [["RuntimeError"], [2.0, 2.0]],
    "replay after reset": _NO_GRAPH,
    "capture after reset": [3.0, 3.0],
    "nested capture": [["RuntimeError 507903", "RuntimeError 107030"], [2.0, 2.0]],
    "the body raises": {"error": ["KeyError"], "replay": None, "again": ["RuntimeError"]},
    "a refused capture": {
        "error": ["RuntimeError 207008"],
        "held": [8.0, 8.0],
        "eager": [5.0, 5.0],
        "taken": 0,
        "replay": _NO_GRAPH,
        "after reset": None,
    },
    "the pool of a refused capture": [["RuntimeError 207008"], ["RuntimeError"]],
    "text of a refused capture": ["capturebegin", "207008", "Stream resources are insufficient", "EL0009"],
    "streams of a graph": [2, 1, 0],
    "capture after a host read": [[2.0, 2.0], None],
    "a constant of the host": ["RuntimeError 507903", "RuntimeError 107030"],
    "host read: item": _refused(107027),
    "host read: truth": _refused(107027),
    "host read: tolist": _refused(107030),
    "host read: numpy": _refused(107030),
    "host read: copy to the host": _refused(107030),
    "host read: nonzero": _refused(107027),
    "host read: mask": _refused(107027),
    "host read: equal": _refused(107027),
}


@dataclass(frozen=True)
class Difference:
    """Where the emulated NPU does something else, and why that stays.

    Attributes:
        emulated: What it does.
        reason: Why, for the documents.
    """

    emulated: Any
    reason: str


DIFFERENCES: dict[str, Difference] = {
    "a constant of the host": Difference(
        None,
        "The host's memory is the emulated NPU's: a tensor that a body makes from numbers cannot be told from one of "
        "the device. It is captured by value; the device refuses the copy.",
    ),
}
