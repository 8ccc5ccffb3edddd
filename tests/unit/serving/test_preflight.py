from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from ascend_serve.config import AscendServeConfig
from ascend_serve.errors import ModelError, PortInUseError
from ascend_serve.serving.preflight import check_model, check_port


def config_of(path: str, npus: int = 0) -> AscendServeConfig:
    return AscendServeConfig.model_validate({"model": {"path": path}, "emulated": {"npus": npus}})


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
    with pytest.raises(PortInUseError, match=host):
        check_port(host, 8000)


def test_a_model_folder_is_fine(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    check_model(config_of(str(tmp_path)))


def test_the_built_in_model_needs_no_folder_but_an_emulated_npu() -> None:
    check_model(config_of("demo", npus=1))
    with pytest.raises(ModelError, match=r"emulated\.npus is 0") as raised:
        check_model(config_of("demo"))
    assert "./demo" in raised.value.remedy


@pytest.mark.parametrize(
    ("path", "problem"),
    [("missing", "does not exist"), ("file", "is a file, not a folder"), ("empty", "has no config.json")],
)
def test_what_is_no_model_is_named(tmp_path: Path, path: str, problem: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=problem) as raised:
        check_model(config_of(str(tmp_path / path)))
    assert str(tmp_path / path) in raised.value.problem
    assert "model.path" in raised.value.remedy
