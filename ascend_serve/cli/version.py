"""What ``ascend-serve --version`` says."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ascend_serve import __version__


def version_text(folder: Path = Path(__file__).parents[2]) -> str:
    """The version, and in a clone the commit, since the version moves with releases only.

    Args:
        folder: Where the package is.
    """
    name = f"ascend-serve {__version__}"
    commit = _commit(folder) if (folder / ".git").exists() else ""
    return f"{name} (commit {commit})" if commit else name


def _commit(folder: Path) -> str:
    """The commit that is checked out, with ``-dirty`` where files differ from it; empty without git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
