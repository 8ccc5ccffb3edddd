"""The demo model: deterministic, whole or not there at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from ascend_serve.emulated import demo_model
from ascend_serve.emulated.demo_model import DemoArchitecture, make_demo_model
from ascend_serve.errors import ModelError


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("architecture", list(DemoArchitecture))
def test_every_weight_of_the_architecture_is_there(architecture: DemoArchitecture, tmp_path: Path) -> None:
    folder = make_demo_model(tmp_path / "model", architecture=architecture, hidden_size=128, layers=1)
    config = AutoConfig.from_pretrained(folder)
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert config.model_type == architecture
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert torch.isfinite(model(torch.tensor([[1, 2, 3]])).logits).all()


def test_same_seed_same_files(tmp_path: Path) -> None:
    one = make_demo_model(tmp_path / "one", hidden_size=64, layers=1)
    two = make_demo_model(tmp_path / "two", hidden_size=64, layers=1)
    other = make_demo_model(tmp_path / "other", hidden_size=64, layers=1, seed=1)
    assert contents(one) == contents(two)
    assert contents(one)["model.safetensors"] != contents(other)["model.safetensors"]


def test_a_whole_model_is_left_alone(tmp_path: Path) -> None:
    folder = make_demo_model(tmp_path / "model", hidden_size=64, layers=1)
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    make_demo_model(folder, hidden_size=64, layers=1)
    assert before == {file: file.stat().st_mtime_ns for file in folder.iterdir()}


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"half")], ids=["missing", "truncated"])
def test_a_damaged_model_is_made_anew(damage: object, tmp_path: Path) -> None:
    folder = make_demo_model(tmp_path / "model", hidden_size=64, layers=1)
    whole = contents(folder)
    damage(folder / "model.safetensors")  # type: ignore[operator]
    make_demo_model(folder, hidden_size=64, layers=1)
    assert contents(folder) == whole
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_something_else_is_not_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "precious.txt").write_text("mine")
    with pytest.raises(ModelError, match="is not this demo model"):
        make_demo_model(folder, hidden_size=64, layers=1)
    make_demo_model(tmp_path / "small", hidden_size=64, layers=1)
    with pytest.raises(ModelError, match="is not this demo model"):
        make_demo_model(tmp_path / "small", hidden_size=64, layers=2)


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(*args: object, **kwargs: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(demo_model, "save", disk_full)
    with pytest.raises(OSError, match="no space"):
        make_demo_model(tmp_path / "model", hidden_size=64, layers=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("hidden_size", "layers"), [(100, 1), (0, 1), (64, 0)])
def test_sizes_that_do_not_fit(hidden_size: int, layers: int, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be made"):
        make_demo_model(tmp_path / "model", hidden_size=hidden_size, layers=layers)


def test_the_tokenizer_can_say_everything(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(make_demo_model(tmp_path / "model", hidden_size=64, layers=1))
    text = "Grüße, 世界! \n\t<>"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert chat == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_the_command(tmp_path: Path) -> None:
    import typer

    app = typer.Typer()
    app.command()(demo_model.main)
    arguments = [str(tmp_path / "model"), "--hidden-size", "64", "--layers", "1"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    failed = CliRunner().invoke(app, [*arguments, "--seed", "7"])
    assert (failed.exit_code, "is not this demo model" in failed.output) == (2, True)


def test_whoever_may_read_its_configuration_may_read_its_weights(tmp_path: Path) -> None:
    folder = make_demo_model(tmp_path / "model")
    modes = {file.stat().st_mode for file in folder.iterdir()}
    assert len(modes) == 1
