"""What an import at once leaves out."""

from __future__ import annotations

import gc
import resource
import sys
from pathlib import Path

import pytest

from ascend_serve.node.imports import import_at_once

DEEP = """
import gc
def called(): ...
def call(depth):
    if depth:
        return call(depth - 1)
    for _ in range(1000):
        called()
for depth in range(150):
    call(depth)
is_collecting = gc.isenabled()
"""
"""Calls something a thousand times at each depth, at one or two of which a block of frames ends."""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "calls_at_each_depth.py").write_text(DEEP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "calls_at_each_depth", raising=False)
    return "calls_at_each_depth"


def test_no_call_takes_memory_of_its_own_for_its_frame(module: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    import_at_once(module)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 1000


def test_nobody_looks_for_garbage_meanwhile_or_at_what_is_there_later(module: str) -> None:
    import_at_once(module)
    assert not sys.modules[module].is_collecting
    assert gc.isenabled()
    assert not any(found is sys.modules[module] for found in gc.get_objects())
    gc.unfreeze()
