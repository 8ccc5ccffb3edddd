"""What this project keeps between runs."""

from __future__ import annotations

import os
from pathlib import Path

USER_CACHE_VARIABLE = "XDG_CACHE_HOME"


def user_cache() -> Path:
    """Where programs keep their caches, by the XDG Base Directory Specification."""
    return Path(os.environ.get(USER_CACHE_VARIABLE) or os.path.expanduser("~/.cache"))


def cache_folder() -> Path:
    """Where this project keeps its own."""
    return user_cache() / "ascend_serve"
