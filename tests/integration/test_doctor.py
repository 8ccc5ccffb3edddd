"""The doctor on a real Ray cluster of two nodes on this machine: one healthy, one with planted faults.

The vendor's tools, CANN's version file and the packages' metadata are files that the nodes find on their paths; the
probe runs them and reads them as it would on an NPU node.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

MACHINE = os.uname().machine


@dataclass(frozen=True)
class NodeSetup:
    """What the tools and files of one node say."""

    health: str = "OK"
    link: str = "UP"
    driver: str = "25.5.1"
    cann: str = "9.1.0"
    vllm: str = "0.23.0"

    def write(self, folder: Path) -> dict[str, str]:
        """Write the files; answers the environment in which a node finds them."""
        self._tool(folder / "npu-smi", f'[ $# = 1 ] && cat <<"END"\n{self._npu_smi()}END\n')
        self._tool(folder / "hccn_tool", self._hccn_tool())
        info = folder / "cann" / f"{MACHINE}-linux" / "ascend_toolkit_install.info"
        info.parent.mkdir(parents=True)
        info.write_text(f"package_name=Ascend-cann-toolkit\nversion={self.cann}\n")
        versions = {"torch": "2.10.0", "torch-npu": "2.10.0.post4", "vllm": self.vllm, "vllm-ascend": "0.23.0.post1"}
        versions |= {"triton-ascend": "3.2.2"}
        for name, version in versions.items():
            metadata = folder / "wheels" / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
            metadata.parent.mkdir(parents=True)
            metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        return {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "wheels"),
            "ASCEND_HOME_PATH": str(folder / "cann"),
        }

    def _tool(self, path: Path, script: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)

    def _npu_smi(self) -> str:
        head = f"| npu-smi {self.driver}  Version: {self.driver} |\n"
        return head + "".join(
            f"| {npu}  910B3 | {self.health if npu else 'OK'} | 90.0  40  0 / 0 |\n"
            f"| 0 | 0000:C{npu}:00.0 | 0  0 / 0  3000 / 65536 |\n"
            for npu in (0, 1)
        )

    def _hccn_tool(self) -> str:
        return f"""
case "$3" in
  -link) echo "link status: {self.link}" ;;
  -net_health) echo "net health status: Success" ;;
  -netdetect) echo "netdetect address: 10.9.0.254" ;;
  -gateway) echo "default gateway:10.9.0.254, Iface:eth$2" ;;
  -ip) echo "ipaddr:10.9.0.$2" ;;
  -ping) echo "3 packets transmitted, 3 received, 0.00% packet loss" ;;
esac
"""


HEALTHY = NodeSetup()
FAULTY = replace(HEALTHY, health="Alarm", link="DOWN", driver="25.3.rc1", vllm="0.22.1")
FAULTY_ENV = {"HCCL_IF_IP": "203.0.113.9", "HCCL_OP_EXPANSION_MODE": "AIV"}

CLUSTER = """
import json, sys
from ray.cluster_utils import Cluster
cluster = Cluster()
try:
    for node in json.loads(sys.argv[1]):
        cluster.add_node(num_cpus=1, object_store_memory=100 << 20, include_dashboard=False, **node)
    cluster.wait_for_nodes()
    print("address", cluster.address, flush=True)
    sys.stdin.read()
finally:
    cluster.shutdown()
"""

FAULTS = [
    pytest.param("node", "devices", "NPU 1 chip 0: Alarm", "npu-smi info -t health", id="device is not healthy"),
    pytest.param("node", "links", "device 0: link DOWN", "cable", id="link is down"),
    pytest.param("node", "hdk", "25.3.rc1, older than 25.5.1", "upgrade driver", id="driver too old"),
    pytest.param(
        "node", "packages", "vllm 0.22.1 (needs 0.23.0)", "ascend-serve install 0.23.0.post1", id="wrong vLLM"
    ),
    pytest.param("node", "environment", "HCCL_IF_IP=203.0.113.9", "unset HCCL_IF_IP", id="address of another node"),
    pytest.param("node", "resource", "advertises 2 GPU and no NPU", "without --num-gpus", id="GPU instead of NPU"),
    pytest.param("cluster", "versions", "vllm differs: 0.22.1 on", "same vllm", id="vLLM differs"),
    pytest.param("cluster", "variables", "HCCL_OP_EXPANSION_MODE differs", "one value", id="variable differs"),
    pytest.param("cluster", "placement", "needs 4 NPUs", "instead of --num-gpus", id="does not fit"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("doctor")


@pytest.fixture(scope="module")
def client_env(folder: Path) -> dict[str, str]:
    """Token authentication with a token of this test's own."""
    token = folder / "auth_token"
    token.write_text("0" * 64)
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}


@pytest.fixture(scope="module")
def address(folder: Path, client_env: dict[str, str]) -> Iterator[str]:
    healthy = HEALTHY.write(folder / "healthy")
    faulty = FAULTY.write(folder / "faulty") | FAULTY_ENV
    nodes = [
        {"num_gpus": 0, "resources": {"NPU": 2}, "env_vars": healthy | client_env},
        {"num_gpus": 2, "env_vars": faulty | client_env},
    ]
    with running_cluster(nodes, os.environ | client_env) as address:
        yield address


@contextlib.contextmanager
def running_cluster(nodes: list[dict[str, Any]], env: dict[str, str]) -> Iterator[str]:
    """A cluster in a process of its own, because Ray reads its authentication mode when a process starts."""
    command = [sys.executable, "-c", CLUSTER, json.dumps(nodes)]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield next(line for line in process.stdout if line.startswith("address ")).split()[1]
        finally:
            process.stdin.close()
            process.wait()


@pytest.fixture(scope="module")
def answer(address: str, client_env: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    config = folder / "config.yaml"
    config.write_text(f"model: {{path: {model}}}\nparallel: {{tensor_parallel_size: 2, pipeline_parallel_size: 2}}\n")
    command = [sys.executable, "-m", "ascend_serve.cli.main", "doctor", "--json", str(config)]
    env = os.environ | client_env | {"RAY_ADDRESS": address}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def diagnosis(answer: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return json.loads(answer.stdout)


def lines(node: dict[str, Any]) -> dict[str, Any]:
    return {line["check"]: line for line in node["lines"]}


@pytest.fixture(scope="module")
def faulty_node(diagnosis: dict[str, Any]) -> dict[str, Any]:
    (node,) = (node for node in diagnosis["nodes"] if lines(node)["devices"]["status"] == "fail")
    return node


@pytest.fixture(scope="module")
def tables(diagnosis: dict[str, Any], faulty_node: dict[str, Any]) -> dict[str, Any]:
    return {"node": lines(faulty_node), "cluster": lines({"lines": diagnosis["cluster"]})}


@pytest.mark.parametrize(("table", "check", "text", "fix"), FAULTS)
def test_names_the_planted_fault_and_its_fix(
    table: str, check: str, text: str, fix: str, tables: dict[str, Any]
) -> None:
    line = tables[table][check]
    assert line["status"] == "fail"
    assert text in line["text"]
    assert fix in line["fix"]


def test_finds_nothing_wrong_with_the_healthy_node(diagnosis: dict[str, Any], faulty_node: dict[str, Any]) -> None:
    (node,) = (node for node in diagnosis["nodes"] if node is not faulty_node)
    assert [line for line in node["lines"] if line["status"] == "fail"] == []
    assert lines(node)["resource"]["text"] == "2 NPU"
    assert lines(node)["ping"]["text"] == "2 NPUs reach the next node"


def test_connects_with_the_token_of_the_cluster(
    tables: dict[str, Any], answer: subprocess.CompletedProcess[str]
) -> None:
    assert tables["cluster"]["connection"]["status"] == tables["cluster"]["authentication"]["status"] == "ok"
    assert answer.returncode == 1
