"""The folder of a local cluster: its logs, its sockets, its temporary files, and who clears it away."""

from __future__ import annotations

import contextlib
import getpass
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from ascend_serve.cluster import janitor

_PREFIX = "ascend-serve-"

LONGEST_PLACE = 21
"""Characters of the folder that a workspace may be made in.

The path of a Unix socket has at most 107 characters, and Ray 2.60 appends
``/ascend-serve-XXXXXXXX/session_YYYY-mm-dd_HH-MM-SS_ffffff_PID/sockets/plasma_store``, with PIDs of up to 7 digits.
"""

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
"""Variable of torch for the folder with what Inductor compiled."""

_END_SECONDS = 30.0


class Workspace:
    """The folder of one local cluster.

    Attributes:
        folder: The folder, which is new.
        environment: Variables that tell the cluster's processes where they belong and where their files go.
    """

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self._janitor = process
        temporary = str(folder / janitor.TEMPORARY)
        self.environment: Mapping[str, str] = {
            janitor.MEMBER: str(folder),
            "TMPDIR": temporary,
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
        """Have everything cleared away, and wait until it is.

        Args:
            keep_logs: Whether somebody will want to read the logs.
        """
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._janitor.communicate(janitor.KEEP_LOGS if keep_logs else None, timeout=_END_SECONDS)
        if self._janitor.poll() != 0:
            janitor.clear(self.folder, keep_logs=keep_logs)


def temporary_places() -> list[Path]:
    """Where a workspace may be made: where the user says, else where every Linux has room for temporary files."""
    chosen = os.environ.get("TMPDIR")
    return [Path(place) for place in (chosen, "/tmp", "/var/tmp") if place]


def compiler_cache(places: Iterable[Path]) -> dict[str, str]:
    """Where Inductor keeps what it compiled: as without us, in the folder for temporary files that was there before.

    A folder with a space in its path breaks Inductor's command line for the compiler (torch 2.13.0).
    """
    if CACHE_VARIABLE in os.environ:
        return {}
    usable = (place for place in places if _can_be_written(place) and not any(map(str.isspace, str(place))))
    place = next(usable, None)
    return {} if place is None else {CACHE_VARIABLE: str(place / f"torchinductor_{user_name()}")}


def user_name() -> str:
    """The name of the user, or the number where there is no name, as in a container that was given another user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid_{os.getuid()}"


def usable_place(places: Iterable[Path]) -> Path | None:
    """The first of ``places`` that can be written and whose path is fit for sockets and for a compiler."""
    return next((place for place in places if is_usable(place)), None)


def is_usable(place: Path) -> bool:
    """Whether a workspace can be made in ``place``."""
    path = str(place)
    fits = place.is_absolute() and len(path) <= LONGEST_PLACE and not any(map(str.isspace, path))
    return fits and _can_be_written(place)


def _can_be_written(place: Path) -> bool:
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)


def _start_janitor(folder: Path) -> subprocess.Popen[bytes]:
    """Start it and wait until it watches. It is in a session of its own, so that no terminal ends it."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", janitor.__file__, str(folder), str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    assert process.stdout is not None
    process.stdout.read(len(janitor.READY))
    return process
