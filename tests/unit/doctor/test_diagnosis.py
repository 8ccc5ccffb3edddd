from __future__ import annotations

from pathlib import Path

import pytest

from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.doctor.cluster_probe import NodeProbe, ping_targets
from ascend_serve.doctor.diagnosis import CheckResult, Diagnosis, NodeDiagnosis, authentication, examine, probe_request
from ascend_serve.node.finding import Status, fail, merge, ok, warn
from tests.unit.doctor.healthy_nodes import node_facts, node_probe


def test_the_diagnosis_is_as_bad_as_its_worst_line() -> None:
    def line(status: Status) -> CheckResult:
        return CheckResult(check="c", status=status, text="t")

    node = NodeDiagnosis(node_id="", address="", hostname="", lines=(line(Status.OK), line(Status.WARN)))
    assert Diagnosis(cluster=(), nodes=(node,)).status is Status.WARN
    assert Diagnosis(cluster=(line(Status.FAIL),), nodes=(node,)).status is Status.FAIL
    assert Diagnosis(cluster=(), nodes=()).status is Status.OK


def test_the_json_form_is_stable() -> None:
    diagnosis = examine([node_probe()], [("connection", ok("10.0.0.1:6379"))], None).model_dump(mode="json")
    assert list(diagnosis) == ["version", "cluster", "nodes", "status"]
    assert diagnosis["version"] == 1
    assert diagnosis["cluster"][0] == {"check": "connection", "status": "ok", "text": "10.0.0.1:6379", "fix": ""}
    assert list(diagnosis["nodes"][0]) == ["node_id", "address", "hostname", "lines"]


def test_an_emulated_cluster_is_recognised_by_its_environment() -> None:
    facts = node_facts(env={"ASCEND_SERVE_EMULATED_NPU": "1"}, cann=None)
    (node,) = examine([node_probe(facts)], [], None).nodes
    assert {line.check: line.status for line in node.lines}["cann"] is Status.OK


@pytest.mark.parametrize(
    ("environ", "token_file", "status"),
    [
        pytest.param({"RAY_AUTH_MODE": "token"}, False, Status.OK, id="switched on"),
        pytest.param({}, True, Status.OK, id="token in its file"),
        pytest.param({"RAY_AUTH_TOKEN": "t"}, False, Status.OK, id="token in the environment"),
        pytest.param({"RAY_AUTH_MODE": "disabled"}, True, Status.WARN, id="switched off"),
        pytest.param({}, False, Status.WARN, id="no token"),
    ],
)
def test_tells_how_ray_knows_its_users(
    environ: dict[str, str], token_file: bool, status: Status, tmp_path: Path
) -> None:
    if token_file:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").touch()
    assert authentication(environ, tmp_path).status is status


def test_asks_the_nodes_for_what_the_configuration_names() -> None:
    config = AscendServeConfig.model_validate({"model": {"path": "models/m"}, "serving": {"port": 8123}})
    request = probe_request(config)
    assert request.model_path == str(Path("models/m").resolve())
    assert 8123 in request.ports
    assert probe_request(None).model_path is None


def test_each_npu_pings_its_like_on_the_next_node() -> None:
    ours, silent = node_probe(), NodeProbe(address="10.0.0.2")
    assert ping_targets(ours, ours) == [(0, "10.9.0.0"), (1, "10.9.0.1")]
    assert ping_targets(ours, silent) == []


def test_merges_findings_into_one_line() -> None:
    merged = merge([warn("a", "x"), fail("b", "y"), fail("b", "y")], ok("fine"))
    assert (merged.status, merged.text, merged.fix) == (Status.FAIL, "a; b", "x; y")
    assert merge([], ok("fine")) == ok("fine")
