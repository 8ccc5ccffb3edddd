"""Packages that break vLLM's import: found on a node, told where an engine starts."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

from ascend_serve.node.vllm_packages import broken
from ascend_serve.replica.vllm_import import check_vllm, explained

MISFIT = 'raise RuntimeError("operator torchvision::nms does not exist")\n'
"""What a torchvision built for another torch says."""


@pytest.fixture
def misfit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with a torchvision that does not fit, and a torchaudio that does."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(MISFIT)
    (tmp_path / "torchaudio.py").touch()
    (tmp_path / "needs_torchvision.py").write_text("import torchvision\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("misfit")
def test_a_package_that_does_not_fit_is_found_with_its_error() -> None:
    assert broken(timeout=120) == {"torchvision": "RuntimeError: operator torchvision::nms does not exist"}


@pytest.mark.usefixtures("misfit")
def test_an_import_that_fails_inside_of_it_names_it_and_what_to_do() -> None:
    with pytest.raises(RuntimeError) as raised:
        import_module("needs_torchvision")
    error = explained(raised.value)
    assert "the installed torchvision does not fit" in error.problem
    assert "operator torchvision::nms does not exist" in error.problem
    assert "pip uninstall torchvision" in error.remedy


def test_another_failure_is_told_as_it_is() -> None:
    error = explained(OSError("libnuma.so.1: cannot open shared object file"))
    assert error.problem == "vLLM cannot be imported: OSError: libnuma.so.1: cannot open shared object file"
    assert "ascend-serve requirements" in error.remedy


def test_a_vllm_that_is_not_there_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ModuleNotFoundError) as raised:
        import_module("vllm")
    assert "vLLM is not installed" in explained(raised.value).problem


def test_where_vllm_is_missing_the_command_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ascend_serve.replica.vllm_import.find_spec", lambda name: None)
    with pytest.raises(Exception, match="vLLM is not installed in") as raised:
        check_vllm()
    assert "ascend-serve requirements | pip install --no-deps" in str(raised.value)
