"""Private names of vendors that are not there are errors that name release and attribute, and end the session."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ascend_serve.engine import expected as seam
from ascend_serve.engine import graph_wrappers
from ascend_serve.engine.expected import expected
from ascend_serve.engine.queue_wait import spare_cores
from ascend_serve.engine.runner_v1 import FirstRunnerSeam
from ascend_serve.errors import VendorInterfaceError
from ascend_serve.graph.error_knowledge import recognize
from ascend_serve.graph.failure import FailureKind


class Wrapper:
    """A graph wrapper of a release that nobody has seen."""


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> str:
    versions = {"vllm-ascend": "0.99.0", "vllm": "0.99.1"}
    monkeypatch.setattr(seam, "installed_version", lambda package: versions.get(package, ""))
    return "vllm-ascend 0.99.0, vllm 0.99.1"


def test_the_first_known_spelling_counts() -> None:
    assert expected(SimpleNamespace(new=1, old=2), "old", "new") == 2
    assert expected(SimpleNamespace(new=None), "old", "new") is None


def test_a_missing_name_is_told_with_the_release(release: str) -> None:
    with pytest.raises(VendorInterfaceError) as error:
        expected(Wrapper(), "graphs", "entries")
    assert error.value.problem.startswith(f"{release}: {Wrapper.__module__}.Wrapper has no graphs or entries")
    assert "0.23.0.post1" in error.value.remedy


def test_it_ends_the_session_since_no_other_plan_is_spared_it() -> None:
    found = recognize("VendorInterfaceError", str(seam.lacking("Wrapper has no graphs")))
    assert found.kind is FailureKind.INSTALLATION
    assert "Wrapper has no graphs" in found.line


def hold_nothing(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(graph_wrappers, "resolve_obj_by_qualname", lambda name: Wrapper)
    monkeypatch.setattr(graph_wrappers, "current_platform", SimpleNamespace(get_static_graph_wrapper_cls=lambda: "any"))
    return list(graph_wrappers._wrappers())


def no_graph_params(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(sys.modules, "vllm_ascend.compilation.acl_graph", ModuleType("acl_graph"))
    return graph_wrappers._graph_params()


def read_positions(monkeypatch: pytest.MonkeyPatch) -> Any:
    return FirstRunnerSeam(SimpleNamespace(positions=Wrapper())).fixed_batch()


@pytest.mark.parametrize(
    ("use", "names"),
    [
        pytest.param(hold_nothing, "_all_instances", id="wrappers"),
        pytest.param(no_graph_params, "get_graph_params", id="graph parameters"),
        pytest.param(read_positions, "gpu", id="positions"),
        pytest.param(lambda _: graph_wrappers._entries(Wrapper()), "concrete_aclgraph_entries or", id="entries"),
        pytest.param(lambda _: graph_wrappers._graph(Wrapper()), "aclgraph or cudagraph", id="graph of an entry"),
        pytest.param(lambda _: spare_cores(Wrapper(), 1), "_spin_condition", id="queue"),
    ],
)
def test_no_seam_goes_on_without(use: Any, names: str, release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(VendorInterfaceError, match=f"{release}: .* has no {names}"):
        use(monkeypatch)


def test_a_runner_of_another_kind_is_refused_by_the_rank(release: str) -> None:
    with pytest.raises(VendorInterfaceError, match=f"{release}: .*Wrapper has no _dummy_run"):
        FirstRunnerSeam(Wrapper()).check()
