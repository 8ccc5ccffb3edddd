"""What is left behind of what ended: one file with all that was known, which outlives the logs of a local cluster."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

import ray
import yaml

from ascend_serve.cache import failure_folder, new_file
from ascend_serve.cluster.worker_death import read_here, read_log
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.errors import AscendServeError, EngineError
from ascend_serve.graph.death import WorkerLog
from ascend_serve.replica.root_cause import OwnLog
from ascend_serve.replica.software import installed_versions
from ascend_serve.telemetry.report import GraphReport

logger = logging.getLogger(__name__)

_MOST_FILES = 20
_MOST_LOGS = 12
_MOST_LINES = 60
_MOST_BYTES = 2**16
"""Of the end of one log."""
_MOST_CHARACTERS = 2**20
"""Of a file: it is for people, and for reports of errors."""
_NO_START = "The engine did not start"


class LastWill:
    """Writes the files of one deployment, for its user alone; the oldest of many go.

    Args:
        config: What it serves. Keys are none of it.
        folder: Where to; by default among what this project keeps in the user's cache folder.
        ray_logs: Where Ray's workers on this node log; where this process's own node does when not given.
    """

    def __init__(self, config: AscendServeConfig, folder: Path | None = None, *, ray_logs: Path | None = None) -> None:
        self._config = config
        self._folder = folder or failure_folder()
        self._ray_logs = ray_logs

    def leave(
        self, reason: str, report: GraphReport | None, *, what: str = "The engine was lost", logs: Iterable[Path] = ()
    ) -> Path | None:
        """Write one.

        Args:
            reason: Why it ended.
            report: What was known of the engine; ``None`` before there was one.
            what: What ended.
            logs: Files whose ends say more, beside this process's own log and those of the ranks on this node.

        Returns:
            The file; ``None`` where none can be written.
        """
        try:
            file = new_file(self._folder, self._config.model.name, ".txt", _MOST_FILES)
            parts = self._parts(f"{what}, {self._config.model.name}: {reason}", report, logs)
            file.write_text("".join(f"{part}\n\n" for part in parts)[:_MOST_CHARACTERS], errors="replace")
        except OSError as error:
            logger.warning("What is known of what ended cannot be kept in %s: %s", self._folder, error)
            return None
        return file

    def of_error(
        self, error: Exception, report: GraphReport | None, *, what: str = _NO_START, logs: Iterable[Path] = ()
    ) -> AscendServeError:
        """Leave one of what an error ended, unless that has been done.

        Args:
            error: The error.
            report: What was known of the engine; ``None`` where there was none.
            what: What it ended.
            logs: As of `leave`.

        Returns:
            The error for a person, with the file as its record.
        """
        told = error if isinstance(error, AscendServeError) else _unexpected(error, what)
        if not told.record:
            lines = "".join(traceback.format_exception(error))
            file = self.leave(f"{told}\n\n{lines}", report, what=what, logs=logs)
            told.record = "" if file is None else f"{file}{_elsewhere()}"
        return told

    def _parts(self, reason: str, report: GraphReport | None, logs: Iterable[Path]) -> Iterator[str]:
        yield reason
        yield _part("versions", (f"{package} {version}" for package, version in installed_versions().items()))
        yield _part("configuration", [yaml.safe_dump(self._config.model_dump(mode="json"), sort_keys=False)])
        for path in (*OwnLog().paths, *logs):
            yield _part(f"end of {path}", _end(path))
        for rank in report.ranks if report is not None else ():
            log = read_here(rank.pid) if self._ray_logs is None else read_log(self._ray_logs, rank.pid)
            yield _part(f"end of the log of rank {rank.rank}, process {rank.pid} on {rank.node}", _lines(log))
        if report is not None:
            yield _part("report", [report.model_dump_json(indent=2)])


def with_file(reason: str, file: Path | None) -> str:
    """``reason``, and where all that was known is kept if it is."""
    return reason if file is None else f"{reason}\nWhat was known of it is in {file}"


def newest_logs(folder: Path) -> list[Path]:
    """The logs of Ray's processes that were written to last, of a node whose folder of logs is ``folder``."""
    written: list[tuple[float, Path]] = []
    for file in (file for pattern in ("*.err", "*.out", "serve/*.log") for file in folder.glob(pattern)):
        # Ray may take one away meanwhile.
        with contextlib.suppress(OSError):
            status = file.stat()
            written += [(status.st_mtime, file)] if status.st_size else []
    return [file for _, file in sorted(written, reverse=True)[:_MOST_LOGS]]


def _unexpected(error: Exception, what: str) -> EngineError:
    return EngineError(f"{what}: {type(error).__name__}: {error}")


def _elsewhere() -> str:
    """On which node this process is, unless that goes without saying."""
    address = str(ray.util.get_node_ip_address()) if ray.is_initialized() else "127.0.0.1"
    return "" if address.startswith("127.") else f" on {address}"


def _lines(log: WorkerLog | None) -> tuple[str, ...]:
    if log is None:
        return ("not on this node, or not any more",)
    return (*log.output[-_MOST_LINES:], *log.errors[-_MOST_LINES:])


def _part(title: str, lines: Iterable[str]) -> str:
    return "\n".join([f"== {title}", *lines])


def _end(path: Path) -> list[str]:
    try:
        with path.open("rb") as content:
            content.seek(max(0, path.stat().st_size - _MOST_BYTES))
            return content.read().decode(errors="replace").splitlines()[-_MOST_LINES:]
    except OSError as error:
        return [str(error)]
