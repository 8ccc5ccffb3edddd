"""Why an engine did not start: vLLM's engine core tells its parent only that it failed, and logs the rest."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ascend_serve.errors import EngineError
from ascend_serve.graph.death import Death, death_by_exit_code
from ascend_serve.graph.error_knowledge import recognize

_ERROR = re.compile(r"(?:^|[\s\]])((?:\w+\.)*[A-Z]\w*(?:Error|Exception)): (.*\S)")
_WRAPPERS = ("root cause", "ray::", "RayTaskError")
"""Parts of errors that only say that something else failed."""
_OF_WORKER = re.compile(r"Worker failed with error '(.*?)(?:', please check the stack trace|$)")
"""How vLLM's executor passes a worker's error on (``MultiprocExecutor.collective_rpc``, 0.23.0 and 0.32.0)."""
_FULL = re.compile(
    r"^(?:\(.*?\] )?(.*(?:[Nn]o space left on device|Disk quota exceeded|ld terminated with signal 7).*)$"
)
"""What the output of a compiler says of a full disk, below the error that tells only that it failed."""
_CORE_BY_SIGNAL = re.compile(r"Failed core proc\(s\): \{.*?: (-\d+)")
"""vLLM's exit codes of engine cores by name (``wait_for_engine_startup``, 0.23.0 and 0.32.0); below zero: signals."""


class OwnLog:
    """The files that this process and its children write to, from now on.

    Ray sends standard output and standard error of a worker process and of its children to two files.

    Attributes:
        paths: The files; empty where the streams are no files.
    """

    def __init__(self) -> None:
        streams = [Path(os.readlink(f"/proc/self/fd/{number}")) for number in (1, 2)]
        self._starts = {path: path.stat().st_size for path in streams if path.is_file()}

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(self._starts)

    def last_error(self) -> str | None:
        """The innermost error that was written since, or ``None``."""
        return last_error(self._lines())

    def _lines(self) -> Iterator[str]:
        for path, start in self._starts.items():
            with path.open(errors="replace") as file:
                file.seek(start)
                yield from file


def last_error(lines: Iterable[str]) -> str | None:
    """The last error in ``lines`` that names a cause, rather than only that something failed."""
    last: str | None = None
    for line in lines:
        if (cause := _cause(line)) is not None:
            last = cause
        elif last is not None and (full := _FULL.match(line.strip())) and full[1] not in last:
            last = f"{last}: {full[1]}"
    return last


def _cause(line: str) -> str | None:
    found = _ERROR.search(line)
    if found is None:
        return None
    kind, text = found.groups()
    if of_worker := _OF_WORKER.search(text):
        return f"{kind}: {of_worker[1]}"
    return None if any(wrapper in found[0] for wrapper in _WRAPPERS) else f"{kind}: {text}"


def core_death(text: str) -> Death | None:
    """How an engine core died that a signal ended, from vLLM's error ``text``; ``None`` when none did."""
    found = _CORE_BY_SIGNAL.search(text)
    return None if found is None else death_by_exit_code(int(found[1]), "the engine core")


def start_error(error: Exception, found: str | None, logs: Iterable[Path]) -> EngineError:
    """The error of an engine that did not start, with what a person can do about it as far as that is known.

    Args:
        error: What vLLM raised.
        found: The cause in its log, if there is one.
        logs: The files of the log.
    """
    death = core_death(str(error))
    cause = death.text if death is not None else found or str(error)
    advice = death.advice if death is not None else recognize("", cause).advice
    where = " and ".join(map(str, logs))
    story = f"The whole log is in {where}." if where else ""
    return EngineError(f"The engine did not start: {cause}", " ".join(filter(None, (advice, story))))
