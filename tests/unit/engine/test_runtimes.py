"""Graph runtimes: both halves of each, plans followed by one runtime alone, groups that load for what all can run."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from vllm.config import CUDAGraphMode

from ascend_serve.engine.runtimes.base import RuntimeOffer
from ascend_serve.engine.runtimes.factory import IMPLEMENTATIONS, apply_plan
from ascend_serve.engine.runtimes.loading import load_for, loaded_for, settle_runtime
from ascend_serve.engine.runtimes.xlite import WORKERS
from ascend_serve.errors import CaptureError, VendorInterfaceError
from ascend_serve.graph.keys import GraphKey
from ascend_serve.graph.ladder import make_plan
from ascend_serve.graph.modes import GraphMode, RuntimeName
from ascend_serve.graph.plan import CapturePlan, GraphRequest
from ascend_serve.graph.runtimes import RUNTIMES

ACLGRAPH, XLITE, EAGER = RuntimeName.ACLGRAPH, RuntimeName.XLITE, RuntimeName.EAGER
DECODE = GraphMode.FULL_DECODE_ONLY
SIZES = (1, 2, 4)
ASKED = GraphRequest(XLITE, DECODE, SIZES)
HAS, OTHER, LACKS = RuntimeOffer("0.2.0"), RuntimeOffer("0.1.0"), RuntimeOffer(refusal="it is not installed")


def plan(runtime: RuntimeName) -> CapturePlan:
    return make_plan(ASKED, runtime, GraphMode.NONE if runtime is EAGER else DECODE, SIZES)


def runner_without_xlite() -> Any:
    return SimpleNamespace(model="model", vllm_config=vllm_config(xlite=False))


def runner_of_0_26() -> Any:
    wrapper = SimpleNamespace(runnable="model")
    return SimpleNamespace(model=wrapper, xlite_model=wrapper, vllm_config=vllm_config())


def runner_of_0_27() -> Any:
    wrapper = SimpleNamespace()
    return SimpleNamespace(model=wrapper, runner_model=wrapper, fallback_model="model", vllm_config=vllm_config())


def runner_of_tomorrow() -> Any:
    return SimpleNamespace(model="wrapper", backend="wrapper", vllm_config=vllm_config())


class Host:
    """What a runtime asks of the model runner, noted."""

    def __init__(self, runner: Any) -> None:
        self.runner = runner
        self.graphs = frozenset(plan(ACLGRAPH).keys)
        self.dispatched: tuple[GraphMode, tuple[int, ...]] | None = None

    def dispatch(self, mode: GraphMode, capture_sizes: tuple[int, ...]) -> None:
        self.dispatched = mode, capture_sizes

    def held(self) -> frozenset[GraphKey]:
        return self.graphs

    def release(self, keys: Iterable[GraphKey]) -> None:
        self.graphs -= frozenset(keys)


def vllm_config(*, xlite: bool = True) -> Any:
    return SimpleNamespace(
        additional_config={"xlite_graph_config": {"enabled": xlite, "full_mode": True}},
        parallel_config=SimpleNamespace(worker_cls=WORKERS[xlite]),
        compilation_config=SimpleNamespace(),
        model_config=SimpleNamespace(enforce_eager=True),
    )


@pytest.fixture(params=[runner_of_0_26, runner_of_0_27])
def host(request: pytest.FixtureRequest) -> Host:
    """With the runner of a worker that loaded its model for Xlite."""
    return Host(request.param())


def test_every_runtime_has_both_halves() -> None:
    assert set(RUNTIMES) == set(IMPLEMENTATIONS) == set(RuntimeName)


@pytest.mark.parametrize(
    ("runtime", "through_xlite", "followed"),
    [
        (ACLGRAPH, False, (True, (DECODE, SIZES))),
        (XLITE, True, (False, (DECODE, SIZES))),
        (EAGER, False, (False, (GraphMode.NONE, ()))),
    ],
    ids=str,
)
@pytest.mark.parametrize("before", RuntimeName)
def test_a_plan_is_followed_by_its_runtime_alone(
    host: Host, before: RuntimeName, runtime: RuntimeName, through_xlite: bool, followed: tuple[bool, Any]
) -> None:
    keeps, dispatched = followed
    wrapper = host.runner.model
    apply_plan(host, plan(before), host.graphs)
    graphs = host.graphs
    apply_plan(host, plan(runtime), graphs)
    assert host.runner.model == (wrapper if through_xlite else "model")
    assert host.graphs == (graphs if keeps else frozenset())
    assert host.dispatched == dispatched


def test_graphs_that_are_not_kept_are_released() -> None:
    host, kept = Host(runner_without_xlite()), frozenset(plan(ACLGRAPH).keys[:1])
    apply_plan(host, plan(ACLGRAPH), kept)
    assert host.graphs == kept


def test_a_model_that_was_loaded_without_xlite_cannot_go_through_it() -> None:
    with pytest.raises(CaptureError, match="without it"):
        apply_plan(Host(runner_without_xlite()), plan(XLITE), frozenset())


@pytest.mark.parametrize("runtime", RuntimeName)
def test_a_release_that_keeps_xlite_elsewhere_is_refused_by_name(runtime: RuntimeName) -> None:
    host = Host(runner_of_tomorrow())
    with pytest.raises(
        VendorInterfaceError, match=r"vllm.* \d.*: .* has no (xlite_model or runner_model|fallback_model)"
    ):
        apply_plan(host, plan(runtime), frozenset())
    assert host.runner.model == "wrapper"


@pytest.mark.parametrize(
    ("offers", "remembered", "loaded"),
    [
        pytest.param([HAS, HAS], None, XLITE, id="all have it"),
        pytest.param([HAS, LACKS], None, None, id="one lacks it"),
        pytest.param([HAS, OTHER], None, None, id="two versions"),
        pytest.param([LACKS, LACKS], None, None, id="all lack it"),
        pytest.param([HAS, HAS], XLITE, XLITE, id="it worked before"),
        pytest.param([HAS, HAS], ACLGRAPH, None, id="it did not work before"),
    ],
)
def test_a_group_loads_for_what_all_ranks_can_run(
    offers: list[RuntimeOffer], remembered: RuntimeName | None, loaded: RuntimeName | None
) -> None:
    config = vllm_config()
    settle_runtime(config, ASKED, {XLITE: offers}, None if remembered is None else plan(remembered))
    assert loaded_for(config) is loaded
    assert config.parallel_config.worker_cls == WORKERS[loaded is XLITE]
    assert config.model_config.enforce_eager == (loaded is XLITE), "as ACLGraph has graphs in the mode it falls back to"


@pytest.mark.parametrize("runtime", RuntimeName)
def test_fresh_workers_load_for_the_runtime_of_their_plan(runtime: RuntimeName) -> None:
    config, wanted = vllm_config(), plan(runtime)
    load_for(config, wanted.runtime, wanted.mode, wanted.capture_sizes)
    assert loaded_for(config) is (XLITE if runtime is XLITE else None)
    assert config.compilation_config.cudagraph_mode is CUDAGraphMode[wanted.mode.name]
    assert config.compilation_config.max_cudagraph_capture_size == max(wanted.capture_sizes, default=0)
    assert config.model_config.enforce_eager == (runtime is EAGER)
