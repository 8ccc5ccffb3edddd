"""Nothing that is not simulated passes for done: the process ends with the name of the call."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.cann_sim import control
from tests.cann_sim.build import linked_names, operators, package, symbols
from tests.npu.programs import run


def stubs() -> list[str]:
    """Calls that torch_npu links to and nobody implements."""
    source = Path(control.library_path()).with_name("unimplemented.cpp").read_text(encoding="utf-8")
    return re.findall(r'cann_sim_unimplemented\("(\w+)"\)', source)


def last_words(name: str) -> tuple[int, str]:
    """How a child ends that calls ``name``, and what it prints."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        faulthandler.disable()
        os.dup2(writer, 2)
        getattr(ctypes.CDLL("libascendcl.so"), name)(b"SomeOperator", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.readline()
    return os.waitpid(child, 0)[1], text.strip()


def test_all_that_torch_npu_links_to_is_there() -> None:
    assert set(linked_names(package("torch_npu", sys.path)[0])) <= symbols(
        [Path(control.library_path())], "--defined-only"
    )


@pytest.mark.parametrize("name", stubs())
def test_a_call_that_is_not_simulated_ends_the_process(name: str) -> None:
    assert last_words(name) == (signal.SIGABRT, f"cann_sim: {name} is not implemented")


@pytest.mark.parametrize("name", ["aclopCompileAndExecute", "aclopCompileAndExecuteV2"])
def test_an_operator_of_the_old_interface_is_named(name: str) -> None:
    assert last_words(name) == (signal.SIGABRT, f"cann_sim: {name}(SomeOperator) is not implemented")


def test_an_operator_that_the_table_lacks_is_named() -> None:
    ended = run("x.npu().ceil().cpu(); print('passed')")
    assert ended.exit_code == -signal.SIGABRT
    assert "passed" not in ended.stdout
    assert "cann_sim: aclopCompileAndExecute(Ceil) is not implemented" in ended.stderr


def test_a_line_that_is_no_operator_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not an operator: aclnnAbs\(Tensor self\)$"):
        list(operators("aclnnAbs(Tensor self)"))
