"""What a lost engine leaves behind: one file with all that was known, which outlives the logs of a local cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from ascend_serve.cache import cache_folder, new_file
from ascend_serve.cluster.worker_death import read_here
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.replica.root_cause import OwnLog
from ascend_serve.replica.software import installed_versions
from ascend_serve.telemetry.report import GraphReport

logger = logging.getLogger(__name__)

_MOST_FILES = 20
_MOST_LINES = 60
_MOST_BYTES = 2**16


class LastWill:
    """Writes the files of one replica, for its user alone; the oldest of many go.

    Args:
        config: What it serves. Keys are none of it.
        folder: Where to; by default among what this project keeps in the user's cache folder.
    """

    def __init__(self, config: AscendServeConfig, folder: Path | None = None) -> None:
        self._config = config
        self._folder = folder or cache_folder() / "failures"

    def leave(self, reason: str, report: GraphReport) -> Path | None:
        """Write one.

        Args:
            reason: Why the engine is lost.
            report: What was known of it.

        Returns:
            The file; ``None`` where none can be written.
        """
        try:
            file = new_file(self._folder, self._config.model.name, ".txt", _MOST_FILES)
            with file.open("w", errors="replace") as text:
                text.writelines(f"{part}\n\n" for part in self._parts(reason, report))
        except OSError as error:
            logger.warning("What is known of the lost engine cannot be kept in %s: %s", self._folder, error)
            return None
        return file

    def _parts(self, reason: str, report: GraphReport) -> Iterator[str]:
        yield f"The engine of {self._config.model.name} was lost: {reason}"
        yield _part("versions", (f"{package} {version}" for package, version in installed_versions().items()))
        yield _part("report", [report.model_dump_json(indent=2)])
        yield _part("configuration", [yaml.safe_dump(self._config.model_dump(mode="json"), sort_keys=False)])
        for path in OwnLog().paths:
            yield _part(f"end of the replica's and the engine core's log, {path}", _end(path))
        for rank in report.ranks:
            log = read_here(rank.pid)
            lines = ("not on this node",) if log is None else (*log.output[-_MOST_LINES:], *log.errors[-_MOST_LINES:])
            yield _part(f"end of the log of rank {rank.rank}, process {rank.pid} on {rank.node}", lines)


def _part(title: str, lines: Iterable[str]) -> str:
    return "\n".join([f"== {title}", *lines])


def _end(path: Path) -> list[str]:
    with path.open("rb") as content:
        content.seek(max(0, path.stat().st_size - _MOST_BYTES))
        return content.read().decode(errors="replace").splitlines()[-_MOST_LINES:]
