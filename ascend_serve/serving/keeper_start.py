"""Starting the stream keeper beside HAProxy, unless one is there. Imports nothing but the standard library."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

from ascend_serve.serving.keeper_folder import KEEPER, LOG

_PATIENCE_SECONDS = 10.0
_PAUSE_SECONDS = 0.02
_ANSWER_SECONDS = 1.0
_MODULE = "ascend_serve.serving.stream_keeper"


class NoKeeperError(RuntimeError):
    """There is no stream keeper, and none could be started."""


def ensure_keeper(owner: int) -> None:
    """See to it that a keeper listens in this process's folder, until the process ``owner`` ends.

    Raises:
        NoKeeperError: None does in time.
    """
    if _owner() == owner:
        return
    ended = _start(owner)
    late = time.monotonic() + _PATIENCE_SECONDS
    while _owner() != owner:
        if select.select([ended], [], [], _PAUSE_SECONDS)[0] or time.monotonic() > late:
            raise NoKeeperError(_last_words() or f"it does not listen within {_PATIENCE_SECONDS:.0f} s")
    os.close(ended)


def _start(owner: int) -> int:
    """Start one as nobody's child: HAProxy, which this process becomes, would leave it a zombie when it ends.

    Returns:
        A file that can be read when the keeper has ended.
    """
    ended, lives = os.pipe()
    child = os.fork()
    if child:
        os.close(lives)
        os.waitpid(child, 0)
        return ended
    try:
        with Path(LOG).open("wb") as log:
            subprocess.Popen(
                [sys.executable, "-P", "-m", _MODULE, os.getcwd(), str(owner)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(lives,),
            )
    finally:
        os._exit(0)


def _owner() -> int | None:
    """Whose keeper listens; ``None`` where none does."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_ANSWER_SECONDS)
            client.connect(KEEPER)
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            with client.makefile("rb") as answer:
                return int(answer.read().rpartition(b"\r\n\r\n")[2])
    except (OSError, ValueError):
        return None


def _last_words() -> str:
    """The last line of what a keeper said that ended."""
    try:
        return (Path(LOG).read_text(errors="replace").strip().splitlines() or [""])[-1]
    except OSError:
        return ""
