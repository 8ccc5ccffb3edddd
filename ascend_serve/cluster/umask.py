"""Files that nobody but their user can read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_ONLY_THE_USER = 0o077


@contextlib.contextmanager
def files_for_this_user() -> Iterator[None]:
    """Have no file that this process makes in the block, or any process that it starts there, be open to others."""
    before = os.umask(_ONLY_THE_USER)
    try:
        yield
    finally:
        os.umask(before)
