"""What a start needs of a machine, as a table of pure functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ascend_serve.node.finding import Status
from ascend_serve.node.machine import MACHINE_CHECKS, MachineFacts, Need, examine_machine, machine_facts
from ascend_serve.node.user_files import CACHE_VARIABLE, compiler_cache

TWO_RANKS = Need(ranks=2, compiles=True, local=True)
MIB = 1 << 20
HEALTHY: dict[str, Any] = {
    "shm_bytes": 4096 * MIB,
    "shm_free_bytes": 4096 * MIB,
    "compiler_path": "/usr/bin/g++",
    "python_header": "/usr/include/python3.11/Python.h",
    "places": ("/tmp", "/var/tmp"),
    "place": "/tmp",
    "home": "/home/me",
}


def shm(mebibytes: int) -> dict[str, int]:
    return {"shm_bytes": mebibytes * MIB, "shm_free_bytes": mebibytes * MIB}


@pytest.mark.parametrize(
    ("check", "changes", "status", "text", "fix"),
    [
        pytest.param("shared memory", shm(64), Status.FAIL, "2 workers need 248 MiB", "--shm-size", id="Docker's own"),
        pytest.param("shared memory", shm(200), Status.FAIL, "has 200 MiB", "--shm-size", id="200 MiB"),
        pytest.param("shared memory", shm(256), Status.WARN, "2 workers may take 640 MiB", "--shm-size", id="256 MiB"),
        pytest.param(
            "shared memory",
            {"shm_free_bytes": 100 * MIB},
            Status.FAIL,
            "100 MiB of them free",
            "--shm-size",
            id="taken",
        ),
        pytest.param("compiler", {"compiler_path": None}, Status.FAIL, "g++ is not on PATH", "install g++", id="none"),
        pytest.param(
            "compiler",
            {"compiler_path": None, "compiled": True},
            Status.WARN,
            "only what is in",
            "CXX",
            id="warm cache",
        ),
        pytest.param("compiler", {"python_header": None}, Status.FAIL, "Python.h", "python3-dev", id="no headers"),
        pytest.param(
            "temporary folder", {"place": None}, Status.FAIL, "none of /tmp, /var/tmp", "TMPDIR", id="no place"
        ),
        pytest.param("temporary folder", {"place": "/var/tmp"}, Status.OK, "TMPDIR=/tmp is too long", "", id="another"),
        pytest.param(
            "home", {"home_is_usable": False}, Status.WARN, "/home/me (HOME)", "set HOME", id="read-only home"
        ),
    ],
)
def test_names_what_is_wrong_and_the_fix(
    check: str, changes: dict[str, Any], status: Status, text: str, fix: str
) -> None:
    facts = MachineFacts(**{**HEALTHY, **changes})
    found = {each.name: each.run(facts, TWO_RANKS) for each in MACHINE_CHECKS}
    assert {name for name, finding in found.items() if finding.status is not Status.OK} <= {check}
    assert found[check].status is status
    assert text in found[check].text
    assert fix in found[check].fix


def test_no_compiler_is_needed_where_nothing_is_compiled() -> None:
    facts = MachineFacts(**{**HEALTHY, "compiler_path": None})
    found = examine_machine(facts, Need(ranks=2, compiles=False))
    assert [finding for finding in found if finding.status is not Status.OK] == []


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is HOME and TMPDIR, in an environment that says nothing else about caches."""
    for name in ("TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_looks_at_this_machine(odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = machine_facts()
    assert facts.shm_bytes >= facts.shm_free_bytes > 0
    assert facts.home == str(odd)
    assert facts.home_is_usable
    assert facts.places[0] == str(odd)
    assert not facts.compiled

    monkeypatch.setenv("HOME", str(odd / "missing"))
    assert not machine_facts().home_is_usable


def test_what_was_compiled_before_counts(odd: Path) -> None:
    folder = Path(compiler_cache([odd])[CACHE_VARIABLE])
    assert not machine_facts().compiled
    (folder / "kernel.so").touch()
    assert machine_facts().compiled
