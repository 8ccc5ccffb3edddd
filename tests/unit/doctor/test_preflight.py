from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.doctor.preflight import check_here, check_port
from ascend_serve.errors import MachineError, ModelError, PortInUseError
from ascend_serve.node.user_files import CACHE_VARIABLE


def config(model: Path | str, **sections: Any) -> AscendServeConfig:
    return AscendServeConfig.model_validate({"model": {"path": str(model)}, "emulated": {"npus": 2}, **sections})


def test_a_free_port_is_fine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    check_port("127.0.0.1", port)


def test_a_taken_port_is_named_with_one_that_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"serving.port {port}: Address already in use") as raised:
            check_port("127.0.0.1", port)
    offered = re.search(r"serving\.port=(\d+)", raised.value.remedy)
    assert offered is not None
    assert offered[1] != str(port)


@pytest.mark.parametrize("host", ["203.0.113.1", "no.such.host.invalid"], ids=["not ours", "unknown"])
def test_a_host_that_is_not_ours_is_named(host: str) -> None:
    with pytest.raises(PortInUseError, match=host) as raised:
        check_port(host, 8000)
    assert "serving.host is an address of this machine" in raised.value.remedy
    assert "port" not in raised.value.remedy


def test_a_model_folder_is_fine(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    check_here([config(tmp_path, graph={"npugraph_ex": {"enabled": True}})], given=True)


def test_the_built_in_model_needs_no_folder_but_an_emulated_npu() -> None:
    check_here([config("demo", emulated={"npus": 1})], given=True)
    with pytest.raises(ModelError, match=r"emulated\.npus is 0") as raised:
        check_here([config("demo", emulated={"npus": 0})], given=True)
    assert "./demo" in raised.value.remedy


@pytest.mark.parametrize(
    ("path", "problem"),
    [("missing", "does not exist"), ("file", "is a file, not a folder"), ("empty", "has no config.json")],
)
def test_what_is_no_model_is_named(tmp_path: Path, path: str, problem: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=problem) as raised:
        check_here([config(tmp_path / path)], given=True)
    assert str(tmp_path / path) in raised.value.problem
    assert "model.path" in raised.value.remedy


def test_all_that_a_machine_lacks_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    with pytest.raises(MachineError) as raised:
        check_here([config(tmp_path / "missing", graph={"npugraph_ex": {"enabled": True}})], given=False)
    assert "no-such-compiler is not on PATH" in raised.value.problem
    assert "missing does not exist" in raised.value.problem
    assert "install g++" in raised.value.problem


def test_without_npugraph_ex_nothing_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").touch()
    check_here([config(tmp_path)], given=False)


def test_a_cluster_that_is_given_has_its_own_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    (tmp_path / "config.json").touch()
    check_here([config(tmp_path, graph={"npugraph_ex": {"enabled": True}})], given=True)
