"""Files of requests and answers for offline generation: one JSON object on each line, in the same order."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ascend_serve.errors import ConfigError

if TYPE_CHECKING:
    from ascend_serve.offline.offline_replica import Answer


class Answering(Protocol):
    """What a batch needs of an engine."""

    def answers(self, requests: Iterable[dict[str, Any]]) -> Iterator[Answer]: ...


@dataclass(frozen=True, slots=True)
class RequestLine:
    """One line of the input.

    Attributes:
        id: The request's ``id``, else the line's number, from 1.
        body: The request without its id; ``None`` when the line holds no request.
        error: Why the line holds no request.
    """

    id: Any
    body: dict[str, Any] | None = None
    error: str = ""


def read_lines(path: Path) -> Iterator[RequestLine]:
    """Read the requests of a file; empty lines count but ask nothing."""
    with path.open(encoding="utf-8") as file:
        for number, text in enumerate(file, start=1):
            if text.strip():
                yield parse_line(number, text)


def parse_line(number: int, text: str) -> RequestLine:
    """Read one line: an object with ``prompt`` or ``messages``, sampling parameters and an ``id`` as wanted."""
    try:
        request = json.loads(text)
    except json.JSONDecodeError as error:
        return RequestLine(number, error=f"line {number} is not valid JSON: {error}")
    if not isinstance(request, dict):
        return RequestLine(number, error=f"line {number} is not a JSON object but {type(request).__name__}")
    body = {key: value for key, value in request.items() if key != "id"}
    identifier = request.get("id", number)
    if ("prompt" in body) == ("messages" in body):
        return RequestLine(identifier, error=f'line {number} needs either "prompt" or "messages"')
    return RequestLine(identifier, body)


def answer_lines(engine: Answering, lines: Iterable[RequestLine]) -> Iterator[dict[str, Any]]:
    """The output for each line, in order; lines that hold no request are answered with their error."""
    waiting: deque[RequestLine] = deque()

    def bodies() -> Iterator[dict[str, Any]]:
        for line in lines:
            waiting.append(line)
            if line.body is not None:
                yield line.body

    for answer in engine.answers(bodies()):
        while waiting[0].body is None:
            yield _error(waiting.popleft())
        yield _answer(waiting.popleft(), answer)
    yield from map(_error, waiting)


def _error(line: RequestLine) -> dict[str, Any]:
    return {"id": line.id, "error": line.error}


def _answer(line: RequestLine, answer: Answer) -> dict[str, Any]:
    if answer.response is None:
        return {"id": line.id, "error": answer.error}
    usage = answer.response.get("usage")
    return {"id": line.id, "text": answer.text, "finish_reason": answer.finish_reason, "usage": usage}


def check_output(path: Path, *, force: bool) -> None:
    """Make sure that a file can be written without losing another.

    Args:
        path: What ``--output`` names.
        force: Whether to replace what is there.

    Raises:
        ConfigError: Something is there, or its folder is not.
    """
    if path.exists() and not force:
        raise ConfigError(f"--output: {path} exists", "Choose another name, or replace it with --force.")
    if not path.parent.is_dir():
        raise ConfigError(f"--output: the folder {path.parent} does not exist", "Create it first.")


@dataclass(slots=True)
class OutputFile:
    """The output, written beside its name and moved there when it is complete.

    Args:
        path: Where it goes.
        resume: Whether to go on with what an interrupted run has left.
        force: Whether to replace what is there.

    Attributes:
        done: Lines that an interrupted run has left and that are kept.
    """

    path: Path
    resume: bool = False
    force: bool = False
    done: int = field(default=0, init=False)

    @property
    def part(self) -> Path:
        """Where it is written until it is complete."""
        return self.path.with_name(self.path.name + ".part")

    def prepare(self, lines: Iterable[RequestLine]) -> None:
        """Make sure that nothing is overwritten that was not meant to be.

        Args:
            lines: The input, to tell whether the interrupted run had the same one.

        Raises:
            ConfigError: Something is there, or cannot be gone on with.
        """
        check_output(self.path, force=self.force)
        if self.part.exists() and not self.force:
            self._go_on(lines)
        else:
            self.part.write_bytes(b"")

    def _go_on(self, lines: Iterable[RequestLine]) -> None:
        if not self.resume:
            raise ConfigError(
                f"--output: {self.part} is left from an interrupted run",
                "Continue it with --resume, or start over with --force.",
            )
        written = self.part.read_bytes()
        complete = written[: written.rfind(b"\n") + 1]
        ids = [json.loads(text)["id"] for text in complete.splitlines()]
        if ids != [line.id for line in islice(lines, len(ids))]:
            raise ConfigError(
                f"--resume: {self.part} answers other requests than --input",
                "Give the input of the interrupted run, or start over with --force.",
            )
        self.part.write_bytes(complete)
        self.done = len(ids)

    def write(self, records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Append ``records`` and yield each once it is written; the file gets its name after the last one."""
        with self.part.open("a", encoding="utf-8") as file:
            for record in records:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
                file.flush()
                yield record
            os.fsync(file.fileno())
        self.part.replace(self.path)
