"""What this project keeps between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where it is kept: ``ascend_serve`` in the user's cache folder, by the XDG Base Directory Specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "ascend_serve"
