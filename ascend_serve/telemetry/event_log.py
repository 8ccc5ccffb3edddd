"""The events of one replica: in memory for whoever looks, and as lines of JSON in a file; both have a bound."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from ascend_serve.cache import cache_folder, new_file
from ascend_serve.errors import EventFileError
from ascend_serve.events import EVENT, AnyEvent, Event, Started
from ascend_serve.telemetry.story import Story

logger = logging.getLogger(__name__)

SUFFIX = ".jsonl"
_MOST_FILES = 20
_MOST_BYTES = 8 * 2**20
_MOST_EVENTS = 10_000


class EventLog:
    """Takes events in, and keeps how it began and the latest ones.

    Args:
        file: Where to keep them; nowhere when not given.
        most_bytes: When the file is larger, it is written anew with the later half of what is kept.
        most_events: How many events are kept.

    Attributes:
        story: What all events came to, also those that are not kept any more.
        file: Where they are kept.
        count: How many there were.
    """

    def __init__(
        self, file: Path | None = None, *, most_bytes: int = _MOST_BYTES, most_events: int = _MOST_EVENTS
    ) -> None:
        self.story = Story()
        self.file = file
        self.count = 0
        self._most_bytes = most_bytes
        self._latest: deque[Event] = deque(maxlen=most_events)
        self._more = asyncio.Event()

    @classmethod
    def kept(cls, name: str, folder: Path | None = None) -> Self:
        """A log in a new file, for its user alone; the oldest of many files go.

        Args:
            name: Part of the file's name.
            folder: Where to; by default among what this project keeps in the user's cache folder.
        """
        try:
            return cls(new_file(folder or event_folder(), name, SUFFIX, _MOST_FILES))
        except OSError as error:
            logger.warning("Events are not kept in %s: %s", folder or event_folder(), error)
            return cls()

    @property
    def events(self) -> tuple[Event, ...]:
        """What is kept, oldest first."""
        started = self.story.started
        if started is None or self.count == len(self._latest):
            return tuple(self._latest)
        return (started, *self._latest)

    def append(self, *events: Event) -> None:
        """Take events in, oldest first."""
        for event in events:
            self.story.add(event)
        self._latest.extend(events)
        self.count += len(events)
        self._write(as_lines(events))
        self._more.set()
        self._more = asyncio.Event()

    async def more(self, known: int) -> int:
        """Wait until there were more than ``known`` events, and tell how many."""
        while self.count <= known:
            await self._more.wait()
        return self.count

    def _write(self, lines: str) -> None:
        if self.file is None:
            return
        try:
            with self.file.open("a") as file:
                file.write(lines)
                size = file.tell()
            if size > self._most_bytes:
                self._write_anew(self.file)
        except OSError as error:
            logger.warning("Events are not kept in %s any more: %s", self.file, error)
            self.file = None

    def _write_anew(self, file: Path) -> None:
        kept = self.events
        begin = [event for event in kept[:1] if isinstance(event, Started)]
        later = kept[max(len(begin), len(kept) // 2) :]
        fresh = file.with_suffix(".new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as text:
            text.write(as_lines([*begin, *later]))
        fresh.replace(file)


def as_lines(events: Iterable[Event]) -> str:
    """Each event as an object of JSON on a line of its own."""
    return "".join(f"{event.model_dump_json()}\n" for event in events)


def event_folder() -> Path:
    """Where event files are, one for each start of a replica on this machine."""
    return cache_folder() / "events"


def latest_file(name: str | None = None, folder: Path | None = None) -> Path | None:
    """The newest event file of a deployment on this machine; ``None`` where there is none.

    Args:
        name: Name of the deployment; of any when not given.
        folder: Where files are.
    """
    for file in sorted((folder or event_folder()).glob(f"*{SUFFIX}"), reverse=True):
        if name is None or name in _names(file):
            return file
    return None


def _names(file: Path) -> frozenset[str]:
    """What a file may be asked for by: the model that its first event names."""
    with contextlib.suppress(EventFileError):
        first = next(read_events(file))
        return frozenset({first.name} if isinstance(first, Started) else ())
    return frozenset()


def read_events(file: Path) -> Iterator[AnyEvent]:
    """The events of a file, oldest first; lines of kinds that this version does not know are left out.

    Raises:
        EventFileError: It cannot be read, or holds nothing that looks like an event.
    """
    known = 0
    try:
        with file.open(errors="replace") as lines:
            for line in lines:
                with contextlib.suppress(ValidationError):
                    yield EVENT.validate_json(line)
                    known += 1
    except OSError as error:
        raise EventFileError(f"{file}: {error.strerror or error}", _REMEDY) from error
    if not known:
        raise EventFileError(f"{file} holds no events", _REMEDY)


_REMEDY = "Give the file of a start, from ~/.cache/ascend_serve/events on the node of its replica."
