"""``model.path: demo``: made once on each node, by whoever needs it first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ascend_serve.config import load
from ascend_serve.emulated import built_in_model
from ascend_serve.emulated.built_in_model import provide
from ascend_serve.errors import ModelError
from ascend_serve.planning import plan_deployment

PROVIDE = "from ascend_serve.emulated.built_in_model import provide; print(provide())"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("model: {path: demo}\nemulated: {npus: 1}\n")
    return path


def test_it_is_made_in_the_users_cache_folder(cache: Path) -> None:
    folder = provide()
    assert folder == built_in_model.folder()
    assert cache in folder.parents
    assert (folder / "config.json").is_file()
    made = (folder / "model.safetensors").stat().st_mtime_ns
    assert provide() == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made


def test_processes_that_need_it_at_once_get_the_same_whole_model() -> None:
    makers = [subprocess.Popen([sys.executable, "-c", PROVIDE], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = {maker.communicate()[0].strip() for maker in makers}
    assert [maker.returncode for maker in makers] == [0, 0]
    (folder,) = map(Path, answers)
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]


def test_a_cache_folder_that_cannot_be_written_is_named(cache: Path) -> None:
    cache.write_text("a file where a folder should be")
    with pytest.raises(ModelError, match="cannot be written: Not a directory") as raised:
        provide()
    assert "XDG_CACHE_HOME" in raised.value.remedy


def test_a_folder_of_that_name_is_another_model(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load(file).model.path == "demo"
    assert load(file, ["model.path=./demo"]).model.path == str(tmp_path / "demo")


def test_it_can_be_planned_without_being_made(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    (file.parent / "demo").mkdir()
    plan = plan_deployment(load(file))
    assert plan.model.num_hidden_layers == 4
    assert not cache.exists()


def test_workers_are_told_that_they_have_to_make_it(file: Path) -> None:
    def told(*overrides: str) -> dict[str, Any]:
        section: dict[str, Any] = plan_deployment(load(file, overrides)).vllm_arguments["additional_config"]
        return dict(section["ascend_serve"])

    assert told()["built_in_model"] is True
    assert "built_in_model" not in told("model.path=/models/Qwen3-8B")
