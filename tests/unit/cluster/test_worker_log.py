"""The log of a worker process, found and read where Ray puts it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ascend_serve.cluster.worker_death import read_log


def write(folder: Path, name: str, text: str, changed: float = 0.0) -> Path:
    file = folder / name
    file.write_text(text)
    os.utime(file, (changed, changed))
    return file


def test_both_files_of_the_process_are_read(tmp_path: Path) -> None:
    error = write(tmp_path, "worker-aa-01000000-12.err", "one\ntwo")
    write(tmp_path, "worker-aa-01000000-12.out", "said")
    write(tmp_path, "worker-bb-01000000-112.err", "of another process")
    log = read_log(tmp_path, 12)
    assert log is not None
    assert (log.path, log.errors, log.output) == (str(error), ("one", "two"), ("said",))


def test_the_latest_process_of_that_number_counts(tmp_path: Path) -> None:
    for name, changed in (("aa", 2.0), ("bb", 1.0)):
        write(tmp_path, f"worker-{name}-01000000-12.err", name, changed)
        write(tmp_path, f"worker-{name}-01000000-12.out", "")
    log = read_log(tmp_path, 12)
    assert log is not None
    assert log.errors == ("aa",)


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    write(tmp_path, "worker-aa-01000000-12.err", "x\n" * 2**20 + "end")
    write(tmp_path, "worker-aa-01000000-12.out", "")
    log = read_log(tmp_path, 12)
    assert log is not None
    assert log.errors[-1] == "end"
    assert sum(map(len, log.errors)) < 2**18


@pytest.mark.parametrize("names", [(), ("worker-aa-01000000-12.err",)], ids=["no file", "one of the two"])
def test_a_log_that_is_not_there_is_none(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        write(tmp_path, name, "")
    assert read_log(tmp_path, 12) is None
