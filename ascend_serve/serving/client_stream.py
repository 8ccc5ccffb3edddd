"""What a client gets of a stream that one replica begins and others go on with. Pure: bytes in, bytes out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, auto

from ascend_serve.api.stream_journal import END, NOT_KEPT, Output, StreamProgress, read_comment

MOST_LOSSES = 8
"""Of one stream. A replica that ends is replaced within minutes; a stream that meets more is better begun anew."""

MOST_FRUITLESS_LOSSES = 2
"""In a row, without a new output: what is asked may be what ends replicas, and must not end all of them."""

_DONE = b"data: [DONE]"
_ERROR = b'data: {"error"'
_SERVERS = re.compile(rb'"code": ?5\d\d\b')
"""Of an error that is not the client's: the replica has lost its engine, and waits for another (503) or for its own end
(500, in vLLM's words)."""
_NOT_KEPT = NOT_KEPT.removesuffix(END)
_CREATED = re.compile(rb'"created": ?\d+')
"""Of an event's own: within the strings of JSON there is a backslash before each quote."""


class StreamState(Enum):
    """How the stream of one replica stands."""

    OPEN = auto()
    COMPLETE = auto()
    """The client has all of it."""
    LOST = auto()
    """Another replica may go on with it."""
    OTHER = auto()
    """It is not the stream that the client has begun to read."""


class ClientStream:
    """The stream of a client, and that of the replica which gives it now.

    A replica that goes on begins the stream anew. What the client has of it is left out by counting: see
    `ascend_serve.api.stream_journal.StreamProgress`.

    Attributes:
        state: How the replica's stream stands.
        events: How many the client has.
        last_words: What the last replica said that told why its stream ends, for a client that nobody goes on for.
    """

    def __init__(self) -> None:
        self.state = StreamState.OPEN
        self.events = 0
        self.last_words = b""
        self._is_kept = True
        self._created: bytes | None = None
        self._losses = 0
        self._fruitless = 0
        self._outputs_at_loss = 0
        self._has = self._at = StreamProgress()
        """What the client has, and where the replica's stream is: one and the same once that has caught up."""
        self._buffer = bytearray()
        self._searched = 0

    @property
    def outputs(self) -> Sequence[Output]:
        """What the next replica has to be told: an output of which the client has no event is made anew."""
        return self._has.outputs if self._has.events else self._has.outputs[:-1]

    def feed(self, data: bytes) -> bytes:
        """Take what came of the replica's stream, in any parts, and tell what to pass on of it: whole events."""
        self._buffer += data
        if self._buffer.find(END, self._searched) < 0:
            self._searched = max(0, len(self._buffer) - 1)
            return b""
        *events, rest = bytes(self._buffer).split(END)
        self._buffer, self._searched = bytearray(rest), max(0, len(rest) - 1)
        passed = bytearray()
        for event in events:
            if (what := self._passed(event)) is not None:
                passed += what
                passed += END
        return bytes(passed)

    def end(self, *, is_whole: bool) -> bytes:
        """The replica's stream has ended, by its end or cut; tell what is left to pass on."""
        if self.state is not StreamState.OPEN:
            return b""
        if not is_whole:
            self.state = StreamState.LOST
            return b""
        self.state = StreamState.COMPLETE if self._at.position >= self._has.position else StreamState.OTHER
        return bytes(self._buffer) if self._at is self._has else b""

    def go_on(self) -> bool:
        """Prepare for the stream of another replica; false where none can go on."""
        self._losses += 1
        outputs = len(self._has.outputs)
        self._fruitless = 0 if outputs > self._outputs_at_loss else self._fruitless + 1
        self._outputs_at_loss = outputs
        if self.state is not StreamState.LOST or not self._is_kept:
            return False
        if self._fruitless >= MOST_FRUITLESS_LOSSES or self._losses >= MOST_LOSSES:
            return False
        self.state = StreamState.OPEN
        self._at = StreamProgress()
        self._buffer, self._searched = bytearray(), 0
        return True

    def _passed(self, event: bytes) -> bytes | None:
        """What the client gets of an event or comment, without its end."""
        if self.state in (StreamState.LOST, StreamState.OTHER):
            return None
        if event.startswith(b":"):
            return self._comment(event)
        if self._is_kept and event.startswith(_ERROR) and _SERVERS.search(event):
            self.state, self.last_words = StreamState.LOST, event + END
            return None
        self._at.note_event()
        if not self._has_caught_up():
            return None
        if event == _DONE:
            self.state = StreamState.COMPLETE
        self.events += 1
        return self._as_created(event)

    def _comment(self, comment: bytes) -> bytes | None:
        if (output := read_comment(comment)) is not None:
            self._note(output)
            return None
        if comment == _NOT_KEPT:
            self._is_kept = False
            return None
        return comment

    def _note(self, output: Output) -> None:
        self._at.note_output(output)
        count, told = len(self._at.outputs), self.outputs
        if self._at is not self._has and count <= len(told) and told[count - 1] != output:
            self.state = StreamState.OTHER
        self._has_caught_up()

    def _has_caught_up(self) -> bool:
        """Whether the client has all that the replica's stream gave before."""
        if self._at is not self._has and self._at.position > self._has.position:
            self._has = self._at
        return self._at is self._has

    def _as_created(self, event: bytes) -> bytes:
        """The event with the time at which the client's stream began."""
        if self._created is None:
            found = _CREATED.search(event)
            self._created = found and found[0]
            return event
        if self._losses:
            return _CREATED.sub(self._created, event, count=1)
        return event
