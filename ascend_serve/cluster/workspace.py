"""The folder of a local cluster: its logs, its sockets, its temporary files, and who clears it away."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from ascend_serve.cache import failure_folder
from ascend_serve.cluster import janitor
from ascend_serve.node.user_files import compiler_cache, home_in, temporary_places, usable_place

_PREFIX = "ascend-serve-"

_END_SECONDS = 30.0


class Workspace:
    """The folder of one local cluster.

    Attributes:
        folder: The folder, which is new, and whose files nobody else can reach.
        ray_folder: Ray's own in it, which Ray opens to everybody.
        environment: Variables that tell the cluster's processes where they belong and where their files go.
    """

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self.ray_folder = folder / "ray"
        self._janitor = process
        self._ended = False
        temporary = str(folder / janitor.TEMPORARY)
        self.environment: Mapping[str, str] = {
            janitor.MEMBER: str(folder),
            "TMPDIR": temporary,
            **_haproxy_files(folder / janitor.TEMPORARY),
            # Titles of processes, Ray's and vLLM's, would be written over what the janitor reads.
            "SPT_NOENV": "1",
            **home_in(folder / janitor.TEMPORARY),
            **compiler_cache(temporary_places()),
        }

    @classmethod
    def make(cls, places: Iterable[Path]) -> Self:
        """Make one in the first of ``places`` that can be written, and have a janitor watch over it.

        Raises:
            OSError: None of them can be written.
        """
        place = usable_place(places)
        if place is None:
            raise PermissionError(f"no folder for temporary files among {', '.join(map(str, places))}")
        janitor.clear_abandoned(place, _PREFIX)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        (folder / janitor.TEMPORARY).mkdir()
        return cls(folder, _start_janitor(folder))

    def end(self, *, keep_logs: bool = False) -> None:
        """Have everything cleared away, and wait until it is; a second time does nothing.

        Args:
            keep_logs: Whether somebody will want to read the logs.
        """
        if self._ended:
            return
        self._ended = True
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._janitor.communicate(janitor.KEEP_LOGS if keep_logs else janitor.DONE, timeout=_END_SECONDS)
        if self._janitor.poll() != 0:
            janitor.clear(self.folder, keep_logs=keep_logs)


def _haproxy_files(folder: Path) -> dict[str, str]:
    """Where Ray Serve (2.60.0) has HAProxy's files, instead of in one folder of the machine.

    It puts the node's id, 56 characters, before each name, and connects to the socket by a path of at most 107.
    """
    return {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "a"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "m"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
    }


def _start_janitor(folder: Path) -> subprocess.Popen[bytes]:
    """Start it and wait until it watches. It is in a session of its own, so that no terminal ends it."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", janitor.__file__, str(folder), str(os.getpid()), str(failure_folder())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    assert process.stdout is not None
    process.stdout.read(len(janitor.READY))
    return process
