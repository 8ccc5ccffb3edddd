"""Several models behind one server, and the arguments that describe one to Ray Serve."""

from __future__ import annotations

from typing import Any

import pytest

from ascend_serve.cluster.placement import NodeOffer
from ascend_serve.config.schema import AscendServeConfig, EmulatedConfig, ModelConfig, ParallelConfig, ServingConfig
from ascend_serve.doctor.preflight import behind_one_server
from ascend_serve.errors import ClusterError, ConfigError
from ascend_serve.replica.application import first_replicas
from ascend_serve.replica.reservation import Reservation
from ascend_serve.serving.builder import BuildArgs


def model(name: str, npus: int = 2, **serving: Any) -> AscendServeConfig:
    return AscendServeConfig(
        model=ModelConfig(path=name), serving=ServingConfig(**serving), emulated=EmulatedConfig(npus=npus)
    )


def test_what_one_says_about_the_server_holds_for_all() -> None:
    options = {"request_timeout_s": 60}
    first, second = behind_one_server(
        [model("a", route_prefix="/a"), model("b", route_prefix="/b", port=8001, http_options=options)]
    )
    assert (first.serving.port, second.serving.port) == (8001, 8001)
    assert first.serving.http_options == options
    assert (first.serving.route_prefix, second.serving.route_prefix) == ("/a", "/b")


@pytest.mark.parametrize(
    ("configs", "problem", "remedy"),
    [
        pytest.param([model("a"), model("b")], "/ is the prefix of a and b", "route_prefix=/b", id="one prefix"),
        pytest.param(
            [model("x/a", route_prefix="/a"), model("y/a", route_prefix="/b")],
            "a is the name of several",
            "model.served_name",
            id="one name",
        ),
        pytest.param(
            [model("a", port=1, route_prefix="/a"), model("b", port=2)], "1 and 2", "one of them", id="two ports"
        ),
        pytest.param(
            [model("a", route_prefix="/a"), model("b", npus=0)],
            "emulated.npus: 0 for some",
            "or none",
            id="half emulated",
        ),
    ],
)
def test_models_that_contradict_each_other(configs: list[AscendServeConfig], problem: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        behind_one_server(configs)
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy


def test_arguments_of_serve_are_overrides() -> None:
    args = BuildArgs.model_validate(
        {"config": "a.yaml", "graph.mode": "FULL", "graph.capture_sizes": [1, 2], "vllm.enforce": True}
    )
    assert args.overrides() == {"graph.mode": "FULL", "graph.capture_sizes": [1, 2], "vllm.enforce": True}


@pytest.mark.parametrize(
    ("options", "replicas"),
    [
        ({}, 1),
        ({"num_replicas": 3}, 3),
        ({"num_replicas": "auto"}, 1),
        ({"autoscaling_config": {"min_replicas": 2, "max_replicas": 4}}, 2),
        ({"autoscaling_config": {"min_replicas": 1, "initial_replicas": 3, "max_replicas": 4}}, 3),
        ({"autoscaling_config": {"min_replicas": 0, "max_replicas": 4}}, 0),
    ],
)
def test_replicas_to_begin_with(options: dict[str, Any], replicas: int) -> None:
    assert first_replicas(model("a", deployment=options)) == replicas


def test_replicas_that_do_not_fit_are_refused_with_the_arithmetic() -> None:
    nodes = [NodeOffer("a", "10.0.0.1", 4), NodeOffer("b", "10.0.0.2", 3)]
    parallel = ParallelConfig(tensor_parallel_size=2)
    assert Reservation.of(parallel, nodes, replicas=3).bundles == ({"CPU": 1.0}, {"NPU": 1}, {"NPU": 1})
    with pytest.raises(ClusterError, match=r"4 replicas of 2 NPUs need 8 NPUs; the cluster offers 7") as caught:
        Reservation.of(parallel, nodes, replicas=4)
    assert "num_replicas" in caught.value.remedy
