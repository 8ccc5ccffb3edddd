"""What a stream has given out so far, told between its events, so that another replica can go on with it. Pure.

A replica that is asked with `KEEP` puts a comment before the events of each output of its engine, with the output's
tokens. Who keeps the stream open for a client takes the comments out and counts. When the replica is lost, another one
gets the same request with the outputs so far: it brings its front end to where the other was, by giving it the very
same outputs again, and goes on. Its stream begins anew; `StreamProgress` tells what of it the client has.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

KEEP = "x-ascend-serve-keep"
"""Header of a request whose stream is kept: the deployment's secret, so that no client can say it."""

GIVEN = "x-ascend-serve-given"
"""Header of a request that goes on: bytes of the body proper, behind which come the outputs so far."""

MODEL = "x-ascend-serve-model"
"""Header of a stream that is kept, and of the request that goes on with it: what makes two replicas equal."""

SECRET_VARIABLE = "ASCEND_SERVE_STREAM_SECRET"
"""Environment variable with the secret, on replicas and beside HAProxy; streams are kept where it is set."""

END = b"\n\n"
"""Of an event, and of a comment."""

NOT_KEPT = b": ascend-serve-not-kept\n\n"
"""From here on the stream cannot go on elsewhere."""

_OUTPUT = b": ascend-serve-output "


class Output(NamedTuple):
    """One output of the engine for a stream with one answer.

    Attributes:
        tokens: The new tokens.
        finish_reason: As vLLM spells it; ``None`` while the answer goes on.
        stop_reason: Token or string that ended it.
    """

    tokens: tuple[int, ...]
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    def comment(self) -> bytes:
        """What stands before the output's first event."""
        return _OUTPUT + json.dumps(self).encode() + END


def read_comment(event: bytes) -> Output | None:
    """The output that a comment tells, without its end; ``None`` for events and other comments."""
    if not event.startswith(_OUTPUT):
        return None
    tokens, finish_reason, stop_reason = json.loads(event.removeprefix(_OUTPUT))
    return Output(tuple(tokens), finish_reason, stop_reason)


@dataclass(slots=True)
class StreamProgress:
    """How far a stream has come.

    Attributes:
        outputs: Of the engine so far.
        events: How many there were since the last output; comments do not count.
    """

    outputs: list[Output] = field(default_factory=list)
    events: int = 0

    def note_output(self, output: Output) -> None:
        """An output whose events come next."""
        self.outputs.append(output)
        self.events = 0

    def note_event(self) -> None:
        """An event that was passed on."""
        self.events += 1

    @property
    def position(self) -> tuple[int, int]:
        """Outputs so far, and events since: what two streams of one request are compared by."""
        return len(self.outputs), self.events


def with_outputs(body: bytes, outputs: Sequence[Output]) -> bytes:
    """The body of a request that goes on; ``GIVEN`` is the length of ``body``."""
    return body + json.dumps(outputs).encode()


def split_body(body: bytes, given: int) -> tuple[bytes, tuple[Output, ...]]:
    """The body proper and the outputs so far; the reverse of `with_outputs`.

    Raises:
        ValueError: It is none that `with_outputs` has made.
    """
    told = json.loads(body[given:])
    return body[:given], tuple(Output(tuple(tokens), finish, stop) for tokens, finish, stop in told)
