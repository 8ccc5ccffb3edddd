from __future__ import annotations

import pytest

from ascend_serve.node.environment import node_environment
from ascend_serve.node.finding import Status
from tests.unit.doctor.healthy_nodes import node_facts


def test_computes_what_differs_per_node() -> None:
    environment = node_environment(node_facts(), {})
    assert environment.env == {
        "HCCL_IF_IP": "10.0.0.1",
        "GLOO_SOCKET_IFNAME": "eth0",
        "TP_SOCKET_IFNAME": "eth0",
        "RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES": "1",
        "ASCEND_RT_VISIBLE_DEVICES": "0,1",
    }
    assert environment.findings == ()


def test_leaves_out_what_is_not_known() -> None:
    env = node_environment(node_facts(interface=None, npu_smi={}, device_files=0), {}).env
    assert set(env) == {"HCCL_IF_IP", "RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES"}


def test_counts_device_files_where_npu_smi_is_missing() -> None:
    env = node_environment(node_facts(npu_smi={}, device_files=4), {}).env
    assert env["ASCEND_RT_VISIBLE_DEVICES"] == "0,1,2,3"


@pytest.mark.parametrize(
    ("on_node", "by_user", "chosen"),
    [
        pytest.param({}, {"GLOO_SOCKET_IFNAME": "lo"}, "lo", id="the user's"),
        pytest.param({"GLOO_SOCKET_IFNAME": "lo"}, {}, "lo", id="the node's"),
        pytest.param(
            {"GLOO_SOCKET_IFNAME": "eth0"}, {"GLOO_SOCKET_IFNAME": "lo"}, "lo", id="the user's before the node's"
        ),
    ],
)
def test_what_is_set_wins(on_node: dict[str, str], by_user: dict[str, str], chosen: str) -> None:
    assert node_environment(node_facts(env=on_node), by_user).env["GLOO_SOCKET_IFNAME"] == chosen


def test_an_interface_for_hccl_is_not_overruled_by_an_address() -> None:
    env = node_environment(node_facts(env={"HCCL_SOCKET_IFNAME": "eth0"}), {}).env
    assert "HCCL_IF_IP" not in env


@pytest.mark.parametrize(
    ("user_env", "status", "words"),
    [
        pytest.param(
            {"HCCL_IF_IP": "10.0.0.2"}, Status.FAIL, ["HCCL_IF_IP=10.0.0.2", "10.0.0.1"], id="another node's address"
        ),
        pytest.param(
            {"GLOO_SOCKET_IFNAME": "ens3"}, Status.FAIL, ["ens3", "eth0, lo"], id="interface that is not there"
        ),
        pytest.param(
            {"TP_SOCKET_IFNAME": "eth0,ens3"},
            Status.FAIL,
            ["TP_SOCKET_IFNAME"],
            id="one of two interfaces is not there",
        ),
        pytest.param(
            {"ASCEND_RT_VISIBLE_DEVICES": "0,2"}, Status.FAIL, ["0,2", "0 to 1"], id="device that is not there"
        ),
        pytest.param({"ASCEND_RT_VISIBLE_DEVICES": "1,1"}, Status.FAIL, ["at most once"], id="device twice"),
        pytest.param({"ASCEND_RT_VISIBLE_DEVICES": ""}, Status.FAIL, ["''"], id="no device"),
        pytest.param({"ASCEND_LAUNCH_BLOCKING": "1"}, Status.WARN, ["ACLGraph"], id="launch blocking"),
        pytest.param(
            {"RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES": "0"},
            Status.FAIL,
            ["Ray would hide"],
            id="Ray hides devices",
        ),
    ],
)
def test_checks_what_the_user_set(user_env: dict[str, str], status: Status, words: list[str]) -> None:
    environment = node_environment(node_facts(), user_env)
    (finding,) = environment.findings
    assert finding.status is status
    assert finding.fix
    assert all(word in finding.text + finding.fix for word in words)
    assert environment.env.items() >= user_env.items()


@pytest.mark.parametrize(
    "user_env",
    [{"HCCL_IF_IP": "127.0.0.1"}, {"GLOO_SOCKET_IFNAME": "lo,eth0"}, {"ASCEND_RT_VISIBLE_DEVICES": "1"}],
    ids=str,
)
def test_finds_nothing_wrong_with_valid_values(user_env: dict[str, str]) -> None:
    assert node_environment(node_facts(), user_env).findings == ()
