"""The emulated worker: what killed ranks left behind does not stop the next ones."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from ascend_serve.emulated import worker


def test_shared_memory_of_killed_ranks_at_our_port_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "SHARED_MEMORY", tmp_path)
    ours = [tmp_path / f"32813-tp:0-[0-1]-cpushm_{rank}" for rank in (0, 1)]
    others = [tmp_path / "2813-tp:0-[0-1]-cpushm_0", tmp_path / "32813-something", tmp_path / "psm_32813"]
    for file in (*ours, *others):
        file.touch()
    worker._forget_killed_ranks("tcp://192.0.2.2:32813")
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_ranks_that_meet_at_a_file_leave_all_shared_memory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "SHARED_MEMORY", tmp_path)
    other = tmp_path / "32813-tp:0-[0-1]-cpushm_0"
    other.touch()

    worker._forget_killed_ranks("file:///tmp/3f2a")

    assert other.exists()


def test_shared_memory_has_no_name_once_all_ranks_have_it() -> None:
    file = Path(f"/dev/shm/{os.getpid()}-tp:0-[0-1]-cpushm_0")
    file.write_bytes(b"x" * 4096)
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 4096) as mapped:
        worker._forget_names()
        assert not file.exists()
        assert mapped[0:1] == b"x"
