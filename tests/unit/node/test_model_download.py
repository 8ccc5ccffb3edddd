"""Models by id that this machine does not have, from a hub on the loopback interface."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ascend_serve.config import load
from ascend_serve.doctor.preflight import check_here, fetched
from ascend_serve.errors import ModelError
from ascend_serve.node.model_download import provide_model
from tests.model_hub import COMMIT, ModelHub, model_hub

FILES = {
    "config.json": '{"architectures": ["Qwen3ForCausalLM"]}',
    "tokenizer.json": "{}",
    "model.safetensors": "weights",
    "pytorch_model.bin": "the same weights",
}
READ = ["config.json", "model.safetensors", "tokenizer.json"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    import huggingface_hub.constants

    folder = tmp_path / "hub"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    models = {"acme/small-1b": folder, "acme/secret": folder}
    with model_hub(models, gated=frozenset({"acme/secret"})) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        # Read once, when huggingface_hub is imported.
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        yield served


def test_an_id_is_downloaded_once_and_only_what_is_read(hub: ModelHub) -> None:
    config = load("acme/small-1b")
    check_here([config], given=True)
    first = fetched(config)
    assert sorted(hub.paths) == READ
    assert first.model.name == "small-1b"
    assert first.model.path.endswith(f"models--acme--small-1b/snapshots/{COMMIT}")
    assert fetched(config) == first
    assert load("acme/small-1b").model.path == first.model.path
    assert len(hub.paths) == len(READ)


def test_a_node_that_lacks_the_folder_gets_the_same_commit(hub: ModelHub) -> None:
    folder = Path(provide_model("acme/small-1b"))
    hub.paths.clear()
    shutil.rmtree(folder.parents[1])
    assert provide_model(str(folder)) == str(folder)
    assert sorted(path.name for path in folder.iterdir()) == READ
    assert sorted(hub.paths) == READ


def test_what_an_interrupted_download_lacks_is_brought(hub: ModelHub) -> None:
    folder = Path(provide_model("acme/small-1b"))
    hub.paths.clear()
    weights = folder / "model.safetensors"
    weights.resolve().unlink()
    assert provide_model("acme/small-1b") == str(folder)
    assert weights.read_text() == "weights"
    assert hub.paths == ["model.safetensors"]


@pytest.mark.parametrize(
    ("path", "revision", "said", "remedy"),
    [
        pytest.param("acme/smal-1b", None, "there is no such model", "Correct the id", id="no such model"),
        pytest.param("acme/secret", None, "it is gated", "hf auth login", id="gated"),
        pytest.param("acme/small-1b", "v9", "it has no revision v9", "vllm.revision", id="no such revision"),
    ],
)
def test_what_cannot_be_downloaded_is_told(
    hub: ModelHub, path: str, revision: str | None, said: str, remedy: str
) -> None:
    with pytest.raises(ModelError) as refused:
        provide_model(path, revision)
    assert said in refused.value.problem
    assert remedy in refused.value.remedy
    assert hub.paths == []


def test_nothing_is_downloaded_where_that_is_forbidden(hub: ModelHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE") as refused:
        provide_model("acme/small-1b")
    assert "hf download acme/small-1b" in refused.value.remedy
    assert hub.paths == []


def test_a_hub_that_does_not_answer_is_named(hub: ModelHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"127[.]0[.]0[.]1:9: ") as refused:
        provide_model("acme/small-1b")
    assert "HF_ENDPOINT" in refused.value.remedy


def test_any_other_folder_is_left_as_it_is(hub: ModelHub, tmp_path: Path) -> None:
    assert provide_model(str(tmp_path / "nowhere")) == str(tmp_path / "nowhere")
    assert hub.paths == []
