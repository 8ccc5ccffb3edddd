"""A folder of this process alone for its sockets and temporary files, where nobody else clears them away.

A process that is killed leaves its folder; the next one of the same user on this machine that makes its own, or ends,
removes it: a folder belongs to whoever holds its lock.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ascend_serve.node.user_files import compiler_cache, temporary_places

_PREFIX = "ascend-serve-process-"
_LOCK = "lock"

SOCKETS_VARIABLE = "VLLM_RPC_BASE_PATH"
"""Variable of vLLM for the folder of its sockets."""

_LONGEST_FOLDER = 70
"""Characters: the path of a socket has at most 107, and vLLM's have 37 after the folder."""

_SWEEP_SECONDS = 3.0
_LOOK_SECONDS = 0.2

_held: dict[Path, IO[str]] = {}
"""The folders of this process, with their locks."""


def use_own_folder_for_sockets(place: Path | None = None) -> Path | None:
    """Make a folder and have vLLM's sockets of this process be in it, unless they have a place already.

    Args:
        place: Where; by default where temporary files go.

    Returns:
        The folder; ``None`` where none can be made or its path is too long, and nothing changes.
    """
    place = place or Path(tempfile.gettempdir())
    with contextlib.suppress(OSError):
        sweep(place)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        if len(str(folder)) <= _LONGEST_FOLDER:
            _hold(folder)
            os.environ[SOCKETS_VARIABLE] = str(folder)
            return folder
        folder.rmdir()
    return None


def use_own_folder(place: Path | None = None) -> None:
    """As `use_own_folder_for_sockets`, and for all temporary files but compiled code, of child processes too."""
    folder = use_own_folder_for_sockets(place)
    if folder is not None:
        os.environ.update(compiler_cache(temporary_places()))
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def sweep(place: Path) -> bool:
    """Remove the folders of this user's processes that have ended; whether there are some that have not."""
    left = False
    for folder in place.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder in _held or folder.lstat().st_uid != os.getuid():
                continue
            with _locked(folder) as ended:
                if ended:
                    shutil.rmtree(folder)
                left = left or not ended
    return left


def leave_own_folder() -> None:
    """Remove the folders of this process, and wait a little for those whose processes end along with it."""
    places = {folder.parent for folder in _held}
    for folder, lock in list(_held.items()):
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()
        del _held[folder]
    deadline = time.monotonic() + _SWEEP_SECONDS
    while any(sweep(place) for place in places) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)


def _hold(folder: Path) -> None:
    lock = (folder / _LOCK).open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not _held:
        atexit.register(leave_own_folder)
    _held[folder] = lock


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether the process has ended whose folder it is: nobody holds the lock."""
    with (folder / _LOCK).open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
