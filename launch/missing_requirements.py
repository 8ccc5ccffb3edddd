"""Tells which packages of a lock with hashes an image lacks: ``missing_requirements.py LOCK [CHANGED ...]``.

What the image has stays as it is, but for the packages that are named after the lock: those are told too. Each line is
one requirement with its hashes, for ``pip install --no-deps --require-hashes``. Needs the standard library alone.
"""

import re
import sys
from collections.abc import Container, Iterator
from importlib import metadata
from pathlib import Path


def missing(lock: str, changed: Container[str], present: Container[str]) -> Iterator[str]:
    """The requirements to install.

    Args:
        lock: The text of the lock; lines that end in a backslash go on.
        changed: Packages that are installed though they may be there, by their plain names.
        present: Packages that are there, by their plain names.
    """
    for requirement in lock.replace("\\\n", " ").splitlines():
        name = plain(re.split(r"[=\[; ]", requirement.strip())[0])
        if name and not name.startswith("#") and (name in changed or name not in present):
            yield " ".join(requirement.split())


def plain(name: str) -> str:
    """A package's name as indices have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    here = {plain(distribution.name) for distribution in metadata.distributions()}
    sys.stdout.writelines(
        f"{line}\n" for line in missing(Path(sys.argv[1]).read_text(encoding="utf-8"), set(sys.argv[2:]), here)
    )
