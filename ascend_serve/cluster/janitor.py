"""Clears away what a local cluster has on this machine, however the process that started it ends.

Runs beside that process as a program of its own, in a session of its own, and needs the standard library alone. Its
standard input is a pipe from that process: it ends when there is nothing left to watch over, and what is written into
it before says what to keep.

A process belongs to the cluster when the environment that it was started with says so, or when its output goes into the
cluster's folder. Shared memory belongs to the cluster
when one of its processes has mapped it; names are noted as they appear, because processes that are killed do not
remove theirs (vLLM's message queues), and afterwards nobody knows whose they were.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import shutil
import signal
import sys
import time
from pathlib import Path

KEEP_LOGS = b"keep logs"
"""What the owner says before it ends the janitor, when somebody will want to read the logs."""

DONE = b"all done."
"""What it says when nobody will. An owner that says nothing has been killed."""

MEMBER = "ASCEND_SERVE_WORKSPACE"
"""Variable that tells the folder of the cluster to its processes."""

READY = b"\n"
"""What the janitor says when it watches."""

TEMPORARY = "tmp"
"""Name of the folder for temporary files in the cluster's folder; never kept."""

REGISTER = "shared_memory"
"""Name of the file that lists the cluster's shared memory. It is locked as long as a janitor is there."""

_SHARED_MEMORY = Path("/dev/shm")
_MAPPED = re.compile(r" /dev/shm/(\S+)$", re.MULTILINE)
_OUTPUTS = (1, 2)

_LOOK_SECONDS = 0.25
_LOOKS = 8
"""How often a new name is looked at before it counts as somebody else's: its maker maps it at once."""

_GRACE_SECONDS = 5.0
"""Between the polite signal and the hard one. Python's resource trackers use it to remove what they watch over."""


_MOST_WILLS = 20
_MOST_LOGS = 12
_MOST_BYTES = 2**13


class Register:
    """The shared memory of one cluster, kept in a file so that it outlives whoever notes it.

    Args:
        folder: The cluster's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._looks: dict[str, int] = {}
        self._strangers = set(_names())

    def note(self) -> None:
        """Note the shared memory that has appeared since the last time."""
        new = _names() - self._strangers
        if not new:
            return
        ours = new & {name for pid in processes_of(self._folder) for name in _mapped(pid)}
        if ours:
            with (self._folder / REGISTER).open("a") as file:
                file.writelines(f"{name}\n" for name in sorted(ours))
        for name in new:
            self._looks[name] = self._looks.get(name, 0) + 1
        self._strangers |= ours | {name for name in new if self._looks[name] >= _LOOKS}


def processes_of(folder: Path) -> list[int]:
    """Processes of the cluster whose folder is ``folder``."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if _is_marked(pid, folder) or _writes_into(pid, folder)]


def clear(folder: Path, *, keep_logs: bool = False) -> None:
    """End all processes of a cluster and remove its shared memory and its folder.

    Args:
        folder: The cluster's folder.
        keep_logs: Whether to leave the folder, but for its temporary files.
    """
    _end_processes(folder)
    with contextlib.suppress(OSError):
        for name in (folder / REGISTER).read_text().split():
            (_SHARED_MEMORY / name).unlink(missing_ok=True)
    (folder / REGISTER).unlink(missing_ok=True)
    shutil.rmtree(folder / TEMPORARY if keep_logs else folder, ignore_errors=True)


def clear_abandoned(place: Path, prefix: str) -> None:
    """Clear away clusters of this user in ``place`` whose janitor was killed, too."""
    for register in place.glob(f"{prefix}*/{REGISTER}"):
        with contextlib.suppress(OSError), register.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            clear(register.parent)


def leave_will(folder: Path, wills: Path, owner: str) -> None:
    """Write what is known of an owner that was killed: its command line, and the ends of the logs of its cluster.

    Args:
        folder: The cluster's folder.
        wills: Where to, in a file for this user alone; the oldest of many go.
        owner: Its process and command line.
    """
    logs = [path for kind in ("*.err", "*.out", "*.log") for path in folder.glob(f"ray/session_2*/logs/**/{kind}")]
    logs.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    parts = [f"The command ended without a word, as by SIGKILL: {owner}"]
    parts += [f"== end of {path}\n{_end(path)}" for path in logs[:_MOST_LOGS]]
    wills.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = wills / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-killed-{folder.name}.txt"
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", errors="replace") as text:
        text.write("\n\n".join(parts) + "\n")
    for old in sorted(wills.glob("*.txt"))[:-_MOST_WILLS]:
        old.unlink(missing_ok=True)


def watch(folder: Path, owner: int, wills: Path) -> None:
    """Note shared memory until ``owner`` or the standard input ends, then clear away what there is.

    Args:
        folder: The cluster's folder.
        owner: The process that watches over the cluster.
        wills: Where to leave what is known when it is killed.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with (folder / REGISTER).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        register, said = Register(folder), b""
        line = Path(f"/proc/{owner}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        os.write(sys.stdout.fileno(), READY)
        # A process that the owner forked may hold the pipe open, so its end is not the only sign.
        while os.getppid() == owner:
            register.note()
            if select.select([sys.stdin], [], [], _LOOK_SECONDS)[0]:
                if not (word := os.read(sys.stdin.fileno(), len(KEEP_LOGS))):
                    break
                said += word
        if not said:
            with contextlib.suppress(OSError):
                leave_will(folder, wills, f"process {owner}, {line}")
        clear(folder, keep_logs=said == KEEP_LOGS)


def _names() -> set[str]:
    with contextlib.suppress(OSError):
        return set(os.listdir(_SHARED_MEMORY))
    return set()


def _is_marked(pid: int, folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.fsencode(f"{MEMBER}={folder}") in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False


def _writes_into(pid: int, folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return any(os.readlink(f"/proc/{pid}/fd/{number}").startswith(f"{folder}/") for number in _OUTPUTS)
    return False


def _mapped(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return _MAPPED.findall(Path(f"/proc/{pid}/maps").read_text())
    return []


def _end(path: Path) -> str:
    with contextlib.suppress(OSError), path.open("rb") as content:
        content.seek(max(0, path.stat().st_size - _MOST_BYTES))
        return content.read().decode(errors="replace")
    return ""


def _end_processes(folder: Path) -> None:
    _signal(processes_of(folder), signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_SECONDS
    while (left := processes_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    deadline += _GRACE_SECONDS
    while left and time.monotonic() < deadline:
        _signal(left, signal.SIGKILL)
        time.sleep(0.05)
        left = processes_of(folder)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


if __name__ == "__main__":
    watch(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
