"""What this project keeps between runs."""

from __future__ import annotations

import os
import re
import time
import uuid
from pathlib import Path

USER_CACHE_VARIABLE = "XDG_CACHE_HOME"


def user_cache() -> Path:
    """Where programs keep their caches, by the XDG Base Directory Specification."""
    return Path(os.environ.get(USER_CACHE_VARIABLE) or os.path.expanduser("~/.cache"))


def cache_folder() -> Path:
    """Where this project keeps its own."""
    return user_cache() / "ascend_serve"


def failure_folder() -> Path:
    """Where what is known of what failed is kept."""
    return cache_folder() / "failures"


def new_file(folder: Path, name: str, suffix: str, most: int) -> Path:
    """Make a file for its user alone, named after the moment; the oldest of many go.

    Args:
        folder: Where to; it is made.
        name: Part of its name.
        suffix: The end of its name, for example ``.txt``.
        most: How many there may be with that end.

    Raises:
        OSError: It cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    plain = re.sub(r"[^\w.-]+", "_", name)
    file = folder / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{plain}-{uuid.uuid4().hex[:4]}{suffix}"
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    for old in sorted(folder.glob(f"*{suffix}"))[:-most]:
        old.unlink(missing_ok=True)
    return file
