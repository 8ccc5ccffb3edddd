"""Where the processes of a deployment keep what outlives them: Ray's token, compiled code, plans that worked."""

from __future__ import annotations

import getpass
import os
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ascend_serve.cache import USER_CACHE_VARIABLE, user_cache

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
"""Variable of torch for the folder with what Inductor compiled."""

TOKEN_VARIABLE = "RAY_AUTH_TOKEN_PATH"
"""Variable of Ray for the file with its token."""

LONGEST_PLACE = 17
"""Characters of the folder that a workspace may be made in.

The path of a Unix socket has at most 107 characters, and Ray 2.60 appends
``/ascend-serve-XXXXXXXX/ray/session_YYYY-mm-dd_HH-MM-SS_ffffff_PID/sockets/plasma_store``, with PIDs of up to 7 digits.
"""

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def home() -> Path:
    """The user's home folder; a relative path where there is none, as for a user without a name."""
    return Path(os.path.expanduser("~"))


def token_file() -> Path:
    """Where Ray looks for its token unless it is told otherwise."""
    return home() / ".ray" / "auth_token"


def home_is_usable() -> bool:
    """Whether Ray's token can be read or written in the home folder, and caches can be written."""
    token = os.access(token_file(), os.R_OK) or can_be_made(token_file().parent)
    return home().is_absolute() and home().is_dir() and token and can_be_made(user_cache())


def home_in(folder: Path) -> dict[str, str]:
    """Variables for a home in ``folder`` where the user's own cannot be written; a token that is there stays in use."""
    if home_is_usable():
        return {}
    token = {TOKEN_VARIABLE: str(token_file())} if os.access(token_file(), os.R_OK) else {}
    kept = {TOKEN_VARIABLE: os.environ[TOKEN_VARIABLE]} if TOKEN_VARIABLE in os.environ else {}
    return {"HOME": str(folder), USER_CACHE_VARIABLE: str(folder / ".cache"), **token, **kept}


def compiler_cache(places: Iterable[Path]) -> dict[str, str]:
    """Where Inductor keeps what it compiled: as without us, in the first folder for temporary files that is fit for it.

    A folder with a space in its path breaks Inductor's command line for the compiler (torch 2.13.0). In one that others
    can write they could leave code for us to run.
    """
    if os.environ.get(CACHE_VARIABLE):
        return {}
    caches = (place / f"torchinductor_{_user_name()}" for place in places if not any(map(str.isspace, str(place))))
    cache = next((cache for cache in caches if can_be_made(cache) and _is_made_for_us_alone(cache)), None)
    return {} if cache is None else {CACHE_VARIABLE: str(cache)}


def can_be_made(folder: Path) -> bool:
    """Whether ``folder`` can be written, or made in the nearest folder that is there.

    A file without a name is made there: root has every permission in ``/proc`` too, and yet can write nothing.
    """
    existing = next((path for path in (folder, *folder.parents) if os.path.exists(path)), folder)
    try:
        with tempfile.TemporaryFile(dir=existing):
            return True
    except OSError:
        return False


def _is_made_for_us_alone(folder: Path) -> bool:
    """Make ``folder`` where it is not there; whether it is this user's, and nobody else may write to it."""
    try:
        folder.mkdir(mode=stat.S_IRWXU, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & _OTHERS_WRITE


def temporary_places() -> list[Path]:
    """Where temporary files may go: where the user says, else where every Linux has room for them."""
    chosen = os.environ.get("TMPDIR")
    return [Path(place) for place in (chosen, "/tmp", "/var/tmp") if place]


def usable_place(places: Iterable[Path]) -> Path | None:
    """The first of ``places`` that can be written and whose path is fit for sockets and for a compiler."""
    return next((place for place in places if is_usable_place(place)), None)


def is_usable_place(place: Path) -> bool:
    """Whether a workspace can be made in ``place``."""
    path = str(place)
    fits = place.is_absolute() and len(path) <= LONGEST_PLACE and not any(map(str.isspace, path))
    return fits and place.is_dir() and can_be_made(place)


def temporary_folder() -> Path | None:
    """Where Python and vLLM put temporary files and sockets, or ``None`` where nothing can be written."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return None


def _user_name() -> str:
    """The name of the user, or the number where there is no name, as in a container that was given another user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid_{os.getuid()}"
