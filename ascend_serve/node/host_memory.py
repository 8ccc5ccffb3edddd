"""How much memory of the host processes can still take here: what the kernel says, and what the cgroup leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class _Files:
    """Names of what a cgroup with a limit has of its memory."""

    limit: str
    usage: str
    inactive: str


_V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Files("memory.max", "memory.current", "inactive_file")


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that can be taken before something is swapped or killed; ``None`` where nobody says.

    The least of ``MemAvailable`` and, for each cgroup from that of this process upwards, its limit minus its working
    set, as Kubernetes counts it: usage without the files that nobody has asked for lately.

    Args:
        root: Where ``proc`` and ``sys`` are.
    """
    left = [*_of_the_kernel(root), *_of_cgroups(root)]
    return max(0, min(left)) if left else None


def no_room(wanted: int, available: int | None) -> str:
    """Why ``wanted`` bytes had better not be taken; empty where there are twice as many. Pure.

    Args:
        wanted: Bytes, of all that take them at the same time.
        available: What there is, as of `available_memory`.
    """
    if available is None:
        return "the kernel does not tell how much memory is left"
    if available < 2 * wanted:
        there = f"{wanted / _GIB:.2f} GiB are wanted, and {available / _GIB:.2f} GiB are left"
        return f"{there}, which is less than twice that"
    return ""


def _of_the_kernel(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            yield int(value.split()[0]) * 1024


def _of_cgroups(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _upwards(root / "sys/fs/cgroup", path, _V2)
        elif "memory" in controllers.split(","):
            yield from _upwards(root / "sys/fs/cgroup/memory", path, _V1)


def _upwards(mount: Path, path: str, files: _Files) -> Iterator[int]:
    """A container sees its own cgroup as the mount, whatever its path says."""
    folder = mount / path.lstrip("/")
    here = folder if folder.is_dir() and ".." not in folder.parts else mount
    for cgroup in (here, *here.parents):
        yield from _left(cgroup, files)
        if cgroup == mount:
            return


def _left(cgroup: Path, files: _Files) -> Iterator[int]:
    limit, usage = "".join(_lines(cgroup / files.limit)), "".join(_lines(cgroup / files.usage))
    if not limit.isdigit() or not usage.isdigit():
        return
    stat = dict(line.split(maxsplit=1) for line in _lines(cgroup / "memory.stat"))
    yield int(limit) - max(0, int(usage) - int(stat.get(files.inactive, 0)))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
