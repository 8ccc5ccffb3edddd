"""Models by id: caches as huggingface_hub and ModelScope lay them out."""

import json
from pathlib import Path
from typing import Any

import pytest

from ascend_serve.config import load
from ascend_serve.config.model_cache import cached_model, is_model_id
from ascend_serve.doctor.preflight import fetched
from ascend_serve.errors import ConfigError, ModelError
from ascend_serve.planning import plan_deployment

MODEL = {"architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": 2, "num_attention_heads": 4}
COMMIT = "0123abc"


def put(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(MODEL))
    return folder


def hugging_face(hub: Path, ref: str = "main", commit: str = COMMIT) -> Path:
    model = hub / "models--Qwen--Qwen2.5-7B"
    (model / "refs").mkdir(parents=True, exist_ok=True)
    (model / "refs" / ref).write_text(commit)
    return put(model / "snapshots" / commit)


@pytest.mark.parametrize(
    ("below", "variables"),
    [
        pytest.param(".cache/huggingface/hub", {}, id="the home folder"),
        pytest.param("cache/huggingface/hub", {"XDG_CACHE_HOME": "cache"}, id="XDG"),
        pytest.param("hf/hub", {"HF_HOME": "hf"}, id="HF_HOME"),
        pytest.param("hub", {"HF_HUB_CACHE": "hub", "HF_HOME": "hf"}, id="HF_HUB_CACHE"),
    ],
)
def test_the_cache_of_hugging_face(tmp_path: Path, below: str, variables: dict[str, str]) -> None:
    folder = hugging_face(tmp_path / below)
    environment = {"HOME": str(tmp_path), **{name: str(tmp_path / value) for name, value in variables.items()}}
    assert cached_model("Qwen/Qwen2.5-7B", environment=environment) == folder
    assert cached_model("Qwen/Other", environment=environment) is None


@pytest.mark.parametrize(
    ("below", "variables"),
    [
        pytest.param(".cache/modelscope/hub/models/Qwen/Qwen2___5-7B", {}, id="dots as underscores"),
        pytest.param(".cache/modelscope/hub/models/Qwen/Qwen2.5-7B", {}, id="dots"),
        pytest.param(".cache/modelscope/hub/Qwen/Qwen2___5-7B", {}, id="an older release"),
        pytest.param("ms/models/Qwen/Qwen2.5-7B", {"MODELSCOPE_CACHE": "ms"}, id="MODELSCOPE_CACHE"),
    ],
)
def test_the_cache_of_model_scope(tmp_path: Path, below: str, variables: dict[str, str]) -> None:
    folder = put(tmp_path / below)
    environment = {"HOME": str(tmp_path), **{name: str(tmp_path / value) for name, value in variables.items()}}
    assert cached_model("Qwen/Qwen2.5-7B", environment=environment) == folder


def test_a_revision_is_a_name_or_a_commit(tmp_path: Path) -> None:
    hub = tmp_path / ".cache/huggingface/hub"
    main, other = hugging_face(hub), hugging_face(hub, "v2", "beef")
    found = [cached_model("Qwen/Qwen2.5-7B", name, {"HOME": str(tmp_path)}) for name in (None, "v2", "beef", "v3")]
    assert found == [main, other, other, None]


@pytest.mark.parametrize(
    ("path", "is_id"),
    [
        ("Qwen/Qwen3-8B", True),
        ("/models/m", False),
        ("./a/b", False),
        ("../a", False),
        ("a/b/c", False),
        ("demo", False),
    ],
)
def test_what_an_id_looks_like(path: str, is_id: bool) -> None:
    assert is_model_id(path) is is_id


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "MODELSCOPE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_an_id_is_planned_from_its_cache_under_its_own_name(home: Path) -> None:
    folder = hugging_face(home / ".cache/huggingface/hub")
    for config in (load({"model": {"path": "Qwen/Qwen2.5-7B"}}), load("Qwen/Qwen2.5-7B")):
        assert (config.model.path, config.model.name) == (str(folder), "Qwen2.5-7B")
        assert plan_deployment(config, environment={}).model.num_hidden_layers == 2


def test_a_folder_of_that_name_comes_first(home: Path) -> None:
    hugging_face(home / ".cache/huggingface/hub")
    folder = put(home / "Qwen" / "Qwen2.5-7B")
    assert load({"model": {"path": "Qwen/Qwen2.5-7B"}}).model.path == str(folder)


def test_an_id_that_is_nowhere_is_told_with_the_command_to_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    words = "hf download Qwen/Nothing"
    config = load("Qwen/Nothing")
    for check in (_plan, fetched):
        with pytest.raises(ModelError) as missing:
            check(config)
        assert words in missing.value.remedy


def _plan(config: Any) -> None:
    plan_deployment(config, environment={})


@pytest.mark.parametrize("name", ["Qwen/qwen.yaml", "folder/dmeo"])
def test_a_file_that_is_not_there_is_no_model(home: Path, name: str) -> None:
    (home / "folder").mkdir()
    with pytest.raises(ConfigError, match="no such file"):
        load(name)
