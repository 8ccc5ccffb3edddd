"""``ascend-serve init``: the configuration that it writes can be planned, and says what there is room for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ascend_serve.cli.main import app
from ascend_serve.config import load
from ascend_serve.errors import AscendServeError, ConfigError, OutputFileError, PlanError
from ascend_serve.planning import plan_deployment

MODELS = Path(__file__).parents[2] / "cases" / "models"
GLM = str(MODELS / "GLM-4.6")


def init(*words: str, said: str | None = None) -> BaseException | None:
    """Runs the command; what it failed with, if it did."""
    done = CliRunner().invoke(app, ["init", *words], input=said)
    return None if done.exit_code == 0 else done.exception


QWEN = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "num_hidden_layers": 64,
    "hidden_size": 5120,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 25600,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "torch_dtype": "bfloat16",
}


def model(folder: Path, gib: int) -> str:
    """A model whose weights take so much."""
    made = folder / "Big"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(QWEN))
    with (made / "model.safetensors").open("wb") as weights:
        weights.truncate(gib * 2**30)
    return str(made)


@pytest.mark.parametrize(
    ("gib", "npus", "says"),
    [
        pytest.param(0, 1, "weights is not known", id="no weights"),
        pytest.param(20, 1, "Each has 20", id="one holds it"),
        pytest.param(100, 2, "requests of", id="as few as hold it"),
    ],
)
def test_what_it_writes_can_be_planned(gib: int, npus: int, says: str, tmp_path: Path) -> None:
    file = tmp_path / "new.yaml"
    assert init(model(tmp_path, gib), "--yes", "--output", str(file)) is None
    config = load(file)
    assert config.parallel.tensor_parallel_size == npus
    assert plan_deployment(config).mode == config.graph.mode
    assert says in file.read_text()


def test_a_model_that_no_machine_holds_is_an_error(tmp_path: Path) -> None:
    assert isinstance(init(model(tmp_path, 2000), "--yes"), PlanError)


def test_the_name_of_the_file_is_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert init(f"{GLM}/", "--yes") is None
    assert load("glm-4.6.yaml").model.path.endswith("GLM-4.6")


@pytest.mark.parametrize(
    ("words", "error", "text"),
    [
        pytest.param([GLM], ConfigError, "no terminal", id="nobody to ask"),
        pytest.param(["qwen3-32b", "--yes"], ConfigError, "is a configuration", id="a configuration"),
        pytest.param(["nothing-there", "--yes"], ConfigError, "nothing-there", id="no such model"),
        pytest.param(
            [GLM, "--yes", "--output", "/no/such/folder/f.yaml"], OutputFileError, "folder/f", id="no such folder"
        ),
    ],
)
def test_what_cannot_be_is_an_error(words: list[str], error: type[AscendServeError], text: str) -> None:
    failed = init(*words)
    assert isinstance(failed, error), failed
    assert text in str(failed)


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("mine")
    assert isinstance(init(GLM, "--yes", "--output", str(file)), ConfigError)
    assert file.read_text() == "mine"
