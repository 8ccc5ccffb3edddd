"""The states of a session."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from ascend_serve.capture.messages import Arrive, Join, Leave, Phase, Propose, Question, Seal


class State(StrEnum):
    """What the session waits for."""

    JOIN = "join"
    PROPOSE = "propose"
    ARRIVE = "arrive"
    LEAVE = "leave"
    SEAL = "seal"
    SEALED = "sealed"
    REPLACING = "replacing"
    ABORTED = "aborted"

    @property
    def phase(self) -> Phase:
        """The phase of the start-up that the ranks are in."""
        return _PHASES[self]


_PHASES = {
    State.JOIN: Phase.JOIN,
    State.PROPOSE: Phase.PROPOSE,
    State.ARRIVE: Phase.WARMUP,
    State.LEAVE: Phase.CAPTURE,
    State.SEAL: Phase.SEAL,
    State.SEALED: Phase.SERVE,
    State.REPLACING: Phase.JOIN,
    State.ABORTED: Phase.ABORTED,
}

EXPECTED: Mapping[State, type[Question]] = MappingProxyType(
    {
        State.JOIN: Join,
        State.PROPOSE: Propose,
        State.ARRIVE: Arrive,
        State.LEAVE: Leave,
        State.SEAL: Seal,
    }
)
"""The question that each meeting point waits for."""
