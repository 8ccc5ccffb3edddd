from __future__ import annotations

from typing import Any

import pytest

from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.doctor.cluster_checks import CLUSTER_CHECKS, run_cluster_checks
from ascend_serve.doctor.cluster_probe import NodeProbe
from ascend_serve.node.finding import Finding, Status
from ascend_serve.node.model_files import ModelFacts
from tests.unit.doctor.healthy_nodes import PACKAGES, devices, node_facts, node_probe

CONFIG = AscendServeConfig.model_validate({"model": {"path": "/models/m"}, "parallel": {"tensor_parallel_size": 2}})


def second(**changes: Any) -> NodeProbe:
    return node_probe(node_facts(**{"node_id": "b" * 56, "address": "10.0.0.2", "hostname": "node2", **changes}))


def findings(*probes: NodeProbe, config: AscendServeConfig | None = None) -> dict[str, Finding]:
    return dict(run_cluster_checks(probes, config))


def model(digest: str | None, **sizes: int) -> ModelFacts:
    return ModelFacts(path="/models/m", files={f"{name}.json": size for name, size in sizes.items()}, digest=digest)


def test_equal_nodes_pass_every_check() -> None:
    found = findings(node_probe(), second(), config=CONFIG)
    assert list(found) == [check.name for check in CLUSTER_CHECKS]
    assert {finding.status for finding in found.values()} == {Status.OK}


@pytest.mark.parametrize(
    ("check", "changes", "status", "words"),
    [
        pytest.param(
            "versions",
            {"packages": {**PACKAGES, "vllm": "0.22.0"}},
            Status.FAIL,
            ["vllm differs", "0.22.0 on 10.0.0.2 (bbbbbbbb)", "0.23.0 on 10.0.0.1 (aaaaaaaa)"],
            id="package",
        ),
        pytest.param(
            "versions",
            {"packages": {**PACKAGES, "xlite": "0.2.0rc4"}},
            Status.FAIL,
            ["xlite", "missing"],
            id="package on one",
        ),
        pytest.param("versions", {"cann": "9.0.0"}, Status.FAIL, ["CANN differs"], id="CANN"),
        pytest.param("versions", {"hdk": "26.0.rc1"}, Status.FAIL, ["HDK differs"], id="driver"),
        pytest.param("versions", {"python": "3.12.1"}, Status.FAIL, ["Python differs"], id="Python"),
        pytest.param("versions", {"python": "3.11.9"}, Status.OK, [], id="Python, patch level only"),
        pytest.param(
            "variables",
            {"env": {"HCCL_OP_EXPANSION_MODE": "AIV"}},
            Status.FAIL,
            ["AIV", "missing"],
            id="variable on one",
        ),
        pytest.param(
            "variables", {"env": {"HCCL_IF_IP": "10.0.0.2"}}, Status.OK, [], id="variable that is the node's own"
        ),
        pytest.param("devices", {"npu_smi": devices(name="910B4")}, Status.WARN, ["910B3", "910B4"], id="products"),
    ],
)
def test_names_what_differs_and_where(check: str, changes: dict[str, Any], status: Status, words: list[str]) -> None:
    found = findings(node_probe(), second(**changes))[check]
    assert found.status is status
    assert all(word in found.text for word in words)
    assert bool(found.fix) is (status is not Status.OK)


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        pytest.param(model("1", config=9, a=1), model("2", config=9, a=2), "a.json", id="size"),
        pytest.param(model("1", config=9, a=1), model("2", config=9), "a.json", id="missing file"),
        pytest.param(model("1", config=9), model("2", config=9), "config.json or the safetensors index", id="content"),
    ],
)
def test_names_the_files_of_a_model_that_differ(ours: ModelFacts, theirs: ModelFacts, words: str) -> None:
    found = findings(node_probe(node_facts(model=ours)), second(model=theirs))["model"]
    assert found.status is Status.FAIL
    assert words in found.text


def test_a_folder_that_one_node_lacks_is_that_nodes_finding() -> None:
    ours, theirs = node_facts(model=model("1", config=9)), model(None)
    assert findings(node_probe(ours), second(model=theirs))["model"].status is Status.OK


def test_says_why_a_replica_does_not_fit() -> None:
    probes = [node_probe(resources={"NPU": 1.0}), node_probe(resources={"GPU": 2.0})]
    found = findings(*probes, config=CONFIG)["placement"]
    assert found.status is Status.FAIL
    assert "needs 2" in found.text
    assert "--num-gpus" in found.fix


def test_says_that_a_group_spans_nodes() -> None:
    probes = [node_probe(resources={"NPU": 1.0}), second().model_copy(update={"resources": {"NPU": 1.0}})]
    found = findings(*probes, config=CONFIG)["placement"]
    assert found.status is Status.WARN
    assert "spans nodes" in found.text


def test_a_silent_node_does_not_hide_the_others() -> None:
    silent = NodeProbe(node_id="c", address="10.0.0.3", resources={}, problem="no answer")
    found = findings(node_probe(), second(cann="9.0.0"), silent)
    assert found["versions"].status is Status.FAIL
