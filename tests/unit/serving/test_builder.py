"""Building an application before and after there is a cluster: the configuration, the layout, what is told."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click
import pytest
from omegaconf import OmegaConf
from ray.serve.scripts import run as serve_run

import ascend_serve
from ascend_serve.cluster.placement import NodeOffer
from ascend_serve.config import load
from ascend_serve.errors import ClusterError, ConfigError, ModelError
from ascend_serve.serving import builder
from ascend_serve.serving.builder import BuildArgs, build
from ascend_serve.serving.serve_run import ServeRun

CONFIG: dict[str, Any] = {"model": {"path": "demo"}, "emulated": {"npus": 2}, "graph": {"mode": "FULL_DECODE_ONLY"}}
OVERRIDE = ["parallel.tensor_parallel_size=2"]


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine another one may run."""
    monkeypatch.setattr(builder, "offers_at", lambda address=None: None)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes of one NPU each."""
    nodes = [NodeOffer("a", "10.0.0.1", 1), NodeOffer("b", "10.0.0.2", 1)]
    monkeypatch.setattr(builder, "offers_at", lambda address=None: nodes)


def options(application: Any) -> dict[str, Any]:
    """What Serve is told about the one deployment of ``application``."""
    deployment = application._bound_deployment
    return {
        "name": deployment.name,
        "bundles": deployment._replica_config.placement_group_bundles,
        "strategy": deployment._replica_config.placement_group_strategy,
        "arguments": deployment.init_kwargs.keys(),
    }


@pytest.mark.parametrize("kind", ["path", "dict", "DictConfig", "typed"])
def test_every_kind_of_configuration_gives_the_same_application(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    OmegaConf.save(OmegaConf.create(CONFIG), file)
    given: dict[str, Any] = {"path": file, "dict": CONFIG, "DictConfig": OmegaConf.create(CONFIG), "typed": load(file)}
    assert options(ascend_serve.build_app(given[kind], OVERRIDE)) == {
        "name": "OpenAIReplica",
        "bundles": [{"CPU": 1.0}, {"NPU": 1.0}, {"NPU": 1.0}],
        "strategy": "STRICT_PACK",
        "arguments": {"started", "reservation", "keys"},
    }


def test_a_deployment_has_neither_http_nor_keys() -> None:
    described = options(ascend_serve.build_deployment(CONFIG, OVERRIDE))
    assert described["arguments"] == {"started", "reservation"}
    assert described["name"] == "OpenAIReplica"


def test_without_a_cluster_the_described_machines_count_and_it_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        ascend_serve.build_app(CONFIG)
    assert "no Ray cluster is known yet" in caplog.text
    assert """ray start --head --resources='{"NPU": 2}'""" in caplog.text


@pytest.mark.usefixtures("cluster")
def test_with_a_cluster_its_nodes_count(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert options(ascend_serve.build_app(CONFIG, OVERRIDE))["strategy"] == "PACK"
    assert caplog.text == ""
    with pytest.raises(ClusterError, match="the cluster offers 2"):
        ascend_serve.build_app(CONFIG, ["parallel.tensor_parallel_size=4"])


def test_bundles_that_are_tied_to_nodes_need_a_cluster() -> None:
    machines = {"model": {"path": "Qwen3-32B"}, "hardware": {"nodes": 2, "npus_per_node": 3}}
    sizes = ["parallel.tensor_parallel_size=2", "parallel.pipeline_parallel_size=2"]
    with pytest.raises(ClusterError, match="tied to nodes") as raised:
        ascend_serve.build_app(machines, sizes)
    assert "ray.init()" in raised.value.remedy


def test_the_built_in_model_is_refused_on_real_npus() -> None:
    with pytest.raises(ModelError, match=r"emulated\.npus is 0"):
        ascend_serve.build_app(CONFIG, ["emulated.npus=0"])


def test_what_serve_decides_is_warned_of(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    own = {"serving": {"port": 8001, "route_prefix": "/demo", "api_key_file": str(tmp_path / "none")}}
    with caplog.at_level(logging.WARNING):
        ascend_serve.build_deployment(CONFIG | own)
    assert "serving.port has no effect here: it is decided by Serve's own HTTP options" in caplog.text
    assert "serving.route_prefix has no effect" in caplog.text
    assert "serving.api_key_file has no effect" in caplog.text
    with pytest.raises(ConfigError, match="api_key_file"):
        ascend_serve.build_app(CONFIG | own)


def test_serves_tools_need_a_cluster(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="No Ray cluster runs on this machine") as raised:
        build(BuildArgs(config=CONFIG))
    assert raised.value.remedy.endswith("""ray start --head --resources='{"NPU": 2}'""")


def test_serve_run_is_told_without_a_traceback() -> None:
    with (
        click.Context(serve_run, info_name="run"),
        pytest.raises(click.ClickException, match="No Ray cluster runs on this machine"),
    ):
        build(BuildArgs(config=CONFIG))


@pytest.mark.usefixtures("cluster")
def test_arguments_of_serve_are_overrides() -> None:
    arguments = BuildArgs.model_validate({"config": CONFIG, "parallel.tensor_parallel_size": "2"})
    assert len(options(build(arguments))["bundles"]) == 3


def test_serve_run_says_where_it_will_connect_and_what_replicas_get() -> None:
    words = ["--address", "head:6379", "--runtime-env-json", '{"env_vars": {"A": "1"}, "working_dir": "."}', "a:b"]
    with serve_run.make_context("run", words):
        command = ServeRun.current()
    assert command == ServeRun("head:6379", {"env_vars": {"A": "1"}})
    assert ServeRun.current() is None
    with click.Context(click.Command("run")):
        assert ServeRun.current() is None
