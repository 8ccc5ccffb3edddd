"""What is garbage after a capture, and what is looked at for it from then on."""

from __future__ import annotations

import gc
import weakref

import pytest

from ascend_serve.engine.capture_garbage import uncollected_capture


class Graph:
    """One that refers to itself, so that only the collector finds out that nobody needs it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def thawed(monkeypatch: pytest.MonkeyPatch) -> object:
    """The variable and the collector of this process as they were."""
    monkeypatch.setenv("VLLM_ENABLE_CUDAGRAPH_GC", "0")
    yield None
    gc.unfreeze()


def test_what_a_plan_left_behind_is_collected_and_the_rest_is_not_looked_at_again() -> None:
    kept = Graph()
    with uncollected_capture(again=False):
        given_up = weakref.ref(Graph())
        assert not gc.isenabled()
    assert given_up() is None
    assert gc.isenabled()
    assert not any(found is kept for found in gc.get_objects())


def test_graphs_of_the_capture_before_are_collected_after_the_next() -> None:
    with uncollected_capture(again=False):
        before = Graph()
    replaced = weakref.ref(before)
    with uncollected_capture(again=True):
        del before
    assert replaced() is None


def test_a_capture_that_fails_leaves_the_collector_on() -> None:
    with pytest.raises(RuntimeError), uncollected_capture(again=False):
        raise RuntimeError("no streams left")
    assert gc.isenabled()


def test_vllm_is_told_to_leave_it_to_us() -> None:
    envs = pytest.importorskip("vllm.envs", reason="vLLM is not installed")
    with uncollected_capture(again=False):
        assert envs.VLLM_ENABLE_CUDAGRAPH_GC
