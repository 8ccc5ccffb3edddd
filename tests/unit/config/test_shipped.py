"""What a CONFIG may be: a file, the folder of a model, or the name of a configuration that is shipped."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ascend_serve.config import load, load_with_sources
from ascend_serve.config.shipped import LAUNCH, find, shipped
from ascend_serve.errors import ConfigError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: a model's folder, one without, and a file."""
    for folder in ("model", "demo", "empty"):
        (tmp_path / folder).mkdir()
    (tmp_path / "model" / "config.json").touch()
    (tmp_path / "own.yaml").write_text("model: {path: model}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_configurations_of_the_repository_are_shipped() -> None:
    assert list(shipped()) == sorted(file.stem for file in (ROOT / "configs").glob("*.yaml"))


def test_start_scripts_are_shipped() -> None:
    assert sorted(file.name for file in LAUNCH.glob("*.sh")) == ["head.sh", "worker.sh"]


@pytest.mark.parametrize("name", [*shipped(), "qwen3-32b.yaml"])
@pytest.mark.usefixtures("here")
def test_a_shipped_configuration_loads_by_name_and_says_so(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ascend_serve"):
        load(name)
    assert caplog.messages[0] == f"{name} is the configuration {find(name)}"


@pytest.mark.usefixtures("here")
def test_origins_name_the_shipped_file() -> None:
    sources = load_with_sources("qwen3-32b").sources
    assert sources.origins[("model", "path")].startswith(f"{shipped()['qwen3-32b']}:")


def test_a_file_comes_before_what_is_shipped(here: Path) -> None:
    (here / "qwen3-32b.yaml").write_text("model: {path: model}\n")
    assert load("qwen3-32b.yaml").model.path == str(here / "model")


def test_a_folder_without_a_model_does_not_hide_what_is_shipped(here: Path) -> None:
    assert find("demo") == shipped()["demo"]
    (here / "demo" / "config.json").touch()
    assert find("demo") == Path("demo")


@pytest.mark.parametrize("form", ["model", "./model", "{here}/model"])
def test_the_folder_of_a_model_is_its_path_and_defaults_for_the_rest(here: Path, form: str) -> None:
    name = form.format(here=here)
    loaded = load_with_sources(name, ["parallel.tensor_parallel_size=2"])
    assert loaded.config.model.path == str(here / "model")
    assert loaded.config.model.name == "model"
    assert loaded.config.parallel.tensor_parallel_size == 2
    assert loaded.sources.origins[("model", "path")] == str(Path(name))


def test_signs_of_interpolation_in_a_folder_are_its_name(here: Path) -> None:
    (here / "model").rename(here / "${model}")
    assert load("${model}").model.path == str(here / "${model}")


@pytest.mark.parametrize(
    ("name", "problem", "remedy"),
    [
        pytest.param("empty", "empty: a folder without config.json", "ascend-serve config --list", id="folder"),
        pytest.param("nowhere.yaml", "nowhere.yaml: no such file", "ascend-serve config --list", id="nothing"),
        pytest.param("qwen3_32b", "qwen3_32b: no such file", "Did you mean qwen3-32b?", id="nearly a shipped one"),
        pytest.param(
            "configs/demo.yaml", "configs/demo.yaml: no such file", "Did you mean demo?", id="the clone's path"
        ),
        pytest.param("x" * 300, "no such file", "ascend-serve config --list", id="too long for a path"),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_is_none_of_these_is_refused(name: str, problem: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(name)
    assert problem in raised.value.problem
    assert remedy in raised.value.remedy
