from __future__ import annotations

import json
import socket
from importlib import metadata
from pathlib import Path

import pytest

from ascend_serve.node.facts import ProbeRequest
from ascend_serve.node.model_files import model_facts
from ascend_serve.node.probe import (
    cann_info_paths,
    installed_packages,
    interface_of,
    parse_version_info,
    probe_node,
    relevant_env,
)


def test_finds_the_interface_of_an_address() -> None:
    addresses = {"lo": ("127.0.0.1",), "eth0": ("10.0.0.1", "fd00::1")}
    assert interface_of("fd00::1", addresses) == "eth0"
    assert interface_of("10.0.0.2", addresses) is None


def test_keeps_keys_and_tokens_out_of_the_environment() -> None:
    environ = {"HCCL_IF_IP": "10.0.0.1", "RAY_AUTH_TOKEN": "s3cret", "VLLM_API_KEY": "s3cret", "HF_TOKEN": "s3cret"}
    assert relevant_env(environ) == {"HCCL_IF_IP": "10.0.0.1"}


@pytest.mark.parametrize(
    ("text", "version"),
    [
        pytest.param("package_name=Ascend-cann-toolkit\nversion=9.1.0\narch=aarch64\n", "9.1.0", id="CANN toolkit"),
        pytest.param(
            "Version=7.35.23\nascendhal_version=7.35.23\npackage_version=25.5.1\n", "25.5.1", id="driver package"
        ),
        pytest.param("Version=24.1.rc1\naicpu_version=1.0\n", "24.1.rc1", id="older driver"),
        pytest.param("nothing here\n", None, id="something else"),
    ],
)
def test_reads_version_files(text: str, version: str | None) -> None:
    assert parse_version_info(text) == version


def test_looks_for_cann_first_where_the_environment_says() -> None:
    paths = cann_info_paths({"ASCEND_HOME_PATH": "/opt/cann"}, machine="aarch64")
    assert str(paths[0]) == "/opt/cann/aarch64-linux/ascend_toolkit_install.info"
    assert len(paths) == 3


def test_reads_versions_without_importing() -> None:
    found = installed_packages()
    assert found["ray"] == metadata.version("ray")
    assert "vllm-ascend" not in found or found["vllm-ascend"] == metadata.version("vllm-ascend")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    (tmp_path / "model.safetensors").write_bytes(b"0" * 64)
    (tmp_path / ".gitattributes").write_text("hidden")
    return tmp_path


def test_describes_a_model_folder(model: Path) -> None:
    facts = model_facts(str(model))
    assert facts.files == {"config.json": 23, "model.safetensors": 64}
    assert facts.digest == model_facts(str(model)).digest


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("config.json", '{"model_type": "qwen2"}', id="same size, other configuration"),
        pytest.param("model.safetensors", "0" * 63, id="weights cut short"),
        pytest.param("tokenizer.json", "{}", id="one more file"),
    ],
)
def test_tells_model_folders_apart(model: Path, name: str, content: str) -> None:
    before = model_facts(str(model)).digest
    (model / name).write_text(content)
    assert model_facts(str(model)).digest != before


def test_finds_what_a_model_folder_promises_and_lacks(model: Path) -> None:
    shards = {"a": "model.safetensors", "b": "model-2.safetensors"}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (model / "tokenizer.json").symlink_to(model / "nowhere")
    assert model_facts(str(model)).missing == ("tokenizer.json", "model-2.safetensors")


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": 3}'])
def test_an_index_that_nobody_understands_is_left_to_vllm(model: Path, text: str) -> None:
    (model / "model.safetensors.index.json").write_text(text)
    assert model_facts(str(model)).missing == ()


def test_a_missing_model_folder_is_an_answer(tmp_path: Path) -> None:
    facts = model_facts(str(tmp_path / "nowhere"))
    assert facts.digest is None
    assert facts.files == {}


def test_probes_this_machine(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tools on PATH that answer like an NPU node's."""
    samples = Path(__file__).parent / "samples"
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "npu-smi").write_text(f"#!/bin/sh\n[ $# = 1 ] && cat {samples}/npu_smi_a2.txt || echo not supported\n")
    (tools / "hccn_tool").write_text(
        '#!/bin/sh\n[ "$3" = -link ] && echo "link status: UP" || echo "ipaddr:10.9.0.$2"\n'
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("HCCL_BUFFSIZE", "256")
    with socket.socket() as busy:
        busy.bind(("", 0))
        busy.listen()
        port = busy.getsockname()[1]
        facts = probe_node(ProbeRequest(model_path=str(model), ports=(port,)), node_id="abc")
    assert facts.node_id == "abc"
    assert facts.num_npus == 2
    assert facts.hdk == "25.5.1"
    assert [(link.link, link.address) for link in facts.hccn.links] == [("UP", "10.9.0.0"), ("UP", "10.9.0.1")]
    assert facts.env["HCCL_BUFFSIZE"] == "256"
    assert facts.busy_ports == (port,)
    assert facts.model is not None
    assert facts.model.digest
    assert facts.address in facts.own_addresses
