"""How much memory of the host is left, by files as Linux has them, and when it is too little."""

from __future__ import annotations

from pathlib import Path

import pytest

from ascend_serve.node.host_memory import available_memory, no_room

GIB = 2**30
PAGE_LIMIT = "9223372036854771712"
"""What a cgroup of version 1 says that has no limit."""


def files(root: Path, **texts: str) -> Path:
    for name, text in texts.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def host(root: Path, cgroup: str) -> Path:
    return files(
        root, proc__meminfo=f"MemTotal: 99 kB\nMemAvailable: {8 * GIB // 1024} kB\n", proc__self__cgroup=cgroup
    )


def cgroup(folder: Path, names: tuple[str, str, str], limit: str, usage: int, inactive: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    limit_file, usage_file, inactive_name = names
    (folder / limit_file).write_text(f"{limit}\n")
    (folder / usage_file).write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{inactive_name} {inactive}\nfile 7\n")


V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


@pytest.mark.parametrize(
    ("limit", "usage", "inactive", "left"),
    [
        pytest.param("max", 6 * GIB, 0, 8 * GIB, id="no-limit"),
        pytest.param(str(6 * GIB), 5 * GIB, 0, GIB, id="limit-minus-usage"),
        pytest.param(str(6 * GIB), 5 * GIB, 3 * GIB, 4 * GIB, id="files-that-nobody-reads-can-go"),
        pytest.param(str(20 * GIB), 5 * GIB, 0, 8 * GIB, id="the-machine-has-less"),
        pytest.param(str(GIB), 5 * GIB, 0, 0, id="over-its-limit"),
    ],
)
def test_a_cgroup_of_version_2_counts(limit: str, usage: int, inactive: int, left: int, tmp_path: Path) -> None:
    root = host(tmp_path, "0::/pod/container\n")
    cgroup(root / "sys/fs/cgroup/pod/container", V2, limit, usage, inactive)
    assert available_memory(root) == left


def test_the_limit_of_a_cgroup_above_counts(tmp_path: Path) -> None:
    root = host(tmp_path, "0::/pod/container\n")
    cgroup(root / "sys/fs/cgroup/pod/container", V2, "max", GIB, 0)
    cgroup(root / "sys/fs/cgroup/pod", V2, str(3 * GIB), 2 * GIB, 0)
    assert available_memory(root) == GIB


@pytest.mark.parametrize("path", ["/kubepods/pod7/other", "/../../other", "/"])
def test_a_container_finds_its_own_at_the_mount(path: str, tmp_path: Path) -> None:
    root = host(tmp_path, f"0::{path}\n")
    cgroup(root / "sys/fs/cgroup", V2, str(4 * GIB), GIB, 0)
    assert available_memory(root) == 3 * GIB


@pytest.mark.parametrize(
    ("limit", "left"),
    [pytest.param(str(4 * GIB), 3 * GIB, id="limit"), pytest.param(PAGE_LIMIT, 8 * GIB, id="no-limit")],
)
def test_a_cgroup_of_version_1_counts(limit: str, left: int, tmp_path: Path) -> None:
    root = host(tmp_path, "5:cpu,cpuacct:/docker/a\n4:memory:/docker/a\n0::/\n")
    cgroup(root / "sys/fs/cgroup/memory/docker/a", V1, limit, 2 * GIB, GIB)
    assert available_memory(root) == left


def test_without_cgroups_the_kernel_counts(tmp_path: Path) -> None:
    assert available_memory(files(tmp_path, proc__meminfo="MemAvailable: 7 kB\n")) == 7 * 1024


def test_nobody_says(tmp_path: Path) -> None:
    assert available_memory(tmp_path) is None


def test_this_machine_says() -> None:
    assert (available_memory() or 0) > 0


@pytest.mark.parametrize(
    ("wanted", "available", "expected"),
    [
        pytest.param(4 * GIB, 8 * GIB, "", id="twice-as-much"),
        pytest.param(4 * GIB, 8 * GIB - 1, "4.00 GiB are wanted, and 8.00 GiB are left", id="a-byte-less"),
        pytest.param(4 * GIB, 0, "4.00 GiB are wanted, and 0.00 GiB are left", id="nothing-left"),
        pytest.param(0, 0, "", id="nothing-wanted"),
        pytest.param(1, None, "does not tell", id="not-known"),
    ],
)
def test_room_is_twice_what_is_wanted(wanted: int, available: int | None, expected: str) -> None:
    reason = no_room(wanted, available)
    assert reason.startswith(expected) or expected in reason
    assert bool(reason) == bool(expected)
