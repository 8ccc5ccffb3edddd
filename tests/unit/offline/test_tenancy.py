"""Engines of one process side by side: who has room, and who ends the cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from pathlib import Path

import pytest

from ascend_serve import Engine
from ascend_serve.cluster.connect import Cluster
from ascend_serve.cluster.placement import NodeOffer
from ascend_serve.errors import ClusterError, ConfigError, EngineError
from ascend_serve.offline import tenancy as module
from ascend_serve.offline.generation import Request
from ascend_serve.offline.tenancy import lose, tenancy

CLUSTER = Cluster("127.0.0.1:6379", Path("logs"), local=True)
CONFIG = {"model": {"path": "Qwen3-32B"}, "emulated": {"npus": 1}}


@pytest.fixture(autouse=True)
def four_npus(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ray would tell about its nodes."""
    monkeypatch.setattr(module, "node_offers", lambda: [NodeOffer("a", "10.0.0.1", 2), NodeOffer("b", "10.0.0.2", 2)])


@contextlib.contextmanager
def started(events: list[str]) -> Iterator[Cluster]:
    events.append("start")
    try:
        yield CLUSTER
    finally:
        events.append("end")


def held(name: str, npus: int, cluster: AbstractContextManager[Cluster]) -> AbstractContextManager[Cluster]:
    """NPUs of an engine that wants to know of no loss."""
    return tenancy(name, npus, cluster, lambda error: None)


@pytest.mark.parametrize("order", [("first", "second"), ("second", "first")], ids=" then ".join)
def test_the_last_engine_ends_the_cluster(order: tuple[str, str]) -> None:
    events: list[str] = []
    engines = {"first": ExitStack(), "second": ExitStack()}
    engines["first"].enter_context(held("first", 2, started(events)))
    engines["second"].enter_context(held("second", 2, nullcontext(CLUSTER)))
    for name in order:
        assert events == ["start"]
        engines[name].close()
    assert events == ["start", "end"]


def test_the_cluster_is_handed_on_more_than_once() -> None:
    events: list[str] = []
    stacks = [ExitStack() for _ in range(3)]
    clusters: list[AbstractContextManager[Cluster]] = [started(events), nullcontext(CLUSTER), nullcontext(CLUSTER)]
    for stack, cluster in zip(stacks, clusters, strict=True):
        stack.enter_context(held("demo", 1, cluster))
    for stack in stacks:
        assert events == ["start"]
        stack.close()
    assert events == ["start", "end"]


def test_an_engine_too_many_is_told_who_holds_the_npus() -> None:
    with held("a", 2, nullcontext(CLUSTER)), held("b", 1, nullcontext(CLUSTER)):
        with pytest.raises(ClusterError) as caught, held("c", 2, nullcontext(CLUSTER)):
            pass
        assert "c needs 2 NPUs, but of the cluster's 4 this process holds 3" in caught.value.problem
        assert "a (2), b (1)" in caught.value.problem
        assert "close()" in caught.value.remedy
    with held("c", 2, nullcontext(CLUSTER)):
        pass


def test_an_engine_that_is_refused_ends_nothing_of_the_others() -> None:
    events: list[str] = []
    with held("a", 4, started(events)):
        with pytest.raises(ClusterError), held("b", 1, nullcontext(CLUSTER)):
            pass
        assert events == ["start"]


def test_all_engines_get_to_know_that_their_cluster_is_lost() -> None:
    told: list[tuple[str, ClusterError]] = []
    error = ClusterError("lost")
    with ExitStack() as stack:
        for name in ("a", "b"):
            stack.enter_context(tenancy(name, 1, nullcontext(CLUSTER), partial(_note, told, name)))
        lose(error)
    lose(error)
    assert told == [("a", error), ("b", error)]


def _note(told: list[tuple[str, ClusterError]], name: str, error: ClusterError) -> None:
    told.append((name, error))


def test_what_no_cluster_of_that_size_holds_is_told_elsewhere() -> None:
    with held("a", 2, nullcontext(CLUSTER)), held("b", 5, nullcontext(CLUSTER)):
        pass


@pytest.mark.parametrize("requests", ["Hello", ["Hello"], {"prompt": "Hello"}], ids=["text", "list", "body"])
def test_an_engine_that_does_not_run_says_how_to_start_it(requests: Request | list[Request]) -> None:
    engine = Engine.from_config(CONFIG)
    with pytest.raises(EngineError, match="The engine of Qwen3-32B does not run") as caught:
        engine.generate(requests)
    assert "start()" in caught.value.remedy
    engine.close()


def test_an_engine_takes_a_typed_configuration_only() -> None:
    with pytest.raises(ConfigError, match="Engine takes an AscendServeConfig") as caught:
        Engine("configs/demo.yaml")  # type: ignore[arg-type]
    assert "Engine.from_config" in caught.value.remedy
