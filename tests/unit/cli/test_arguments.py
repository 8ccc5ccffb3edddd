"""Files, overrides and models of a command line."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ascend_serve.cli.arguments import described, load_models, models
from ascend_serve.cli.main import app
from ascend_serve.errors import ConfigError

BASE = "model: {path: models/tiny}\nserving: {port: 8001}\n"
SITE = "serving: {host: 0.0.0.0}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "base.yaml").write_text(BASE, encoding="utf-8")
    (tmp_path / "site.yaml").write_text(SITE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "found"),
    [
        pytest.param([], [(["a.yaml"], [])], id="one file"),
        pytest.param(["k=v", "l=w"], [(["a.yaml"], ["k=v", "l=w"])], id="one file with overrides"),
        pytest.param(
            ["k=v", "b.yml", "k=w"], [(["a.yaml"], ["k=v"]), (["b.yml"], ["k=w"])], id="overrides go to the file before"
        ),
        pytest.param(["qwen3-32b"], [(["a.yaml"], []), (["qwen3-32b"], [])], id="the name of a shipped configuration"),
        pytest.param(["trace=b.yaml"], [(["a.yaml"], ["trace=b.yaml"])], id="a value that looks like a file"),
        pytest.param(["nonsense"], [(["a.yaml"], ["nonsense"])], id="neither"),
        pytest.param(["+b.yaml", "k=v"], [(["a.yaml", "b.yaml"], ["k=v"])], id="a file to merge"),
        pytest.param(
            ["k=v", "+/dev/fd/63"], [(["a.yaml", "/dev/fd/63"], ["k=v"])], id="a file to merge, without suffix"
        ),
        pytest.param(["+k=v", "~l"], [(["a.yaml"], ["+k=v", "~l"])], id="Hydra's overrides are no files"),
        pytest.param(
            ["+s.yaml", "b.yaml", "+s.yaml"], [(["a.yaml", "s.yaml"], []), (["b.yaml", "s.yaml"], [])], id="both merged"
        ),
        pytest.param(["-"], [(["a.yaml"], []), (["-"], [])], id="standard input is a model"),
        pytest.param(["+-"], [(["a.yaml", "-"], [])], id="standard input to merge"),
    ],
)
def test_models_of_a_command_line(words: list[str], found: list[tuple[list[str], list[str]]]) -> None:
    assert [(each.files, each.overrides) for each in models(Path("a.yaml"), words)] == found


@pytest.mark.parametrize(
    ("words", "files", "overrides"),
    [
        pytest.param(["k=v", "b.yaml", "c.yml"], ["a.yaml", "b.yaml", "c.yml"], ["k=v"], id="further files are merged"),
        pytest.param(["+b.yaml", "-", "~k"], ["a.yaml", "b.yaml", "-"], ["~k"], id="as serve has it"),
        pytest.param(None, ["a.yaml"], [], id="nothing"),
    ],
)
def test_one_model_of_a_command_line(words: list[str] | None, files: list[str], overrides: list[str]) -> None:
    found = described(Path("a.yaml"), words)
    assert (found.files, found.overrides) == (files, overrides)


@pytest.mark.usefixtures("folder")
def test_files_to_merge_and_overrides_over_them() -> None:
    [config] = load_models(Path("base.yaml"), ["serving.port=9", "+site.yaml"])
    assert (config.serving.host, config.serving.port) == ("0.0.0.0", 9)


@pytest.mark.usefixtures("folder")
def test_a_further_model_that_is_none_tells_how_to_merge_it() -> None:
    with pytest.raises(ConfigError) as caught:
        load_models(Path("base.yaml"), ["site.yaml"])
    assert "model: required, but not set (site.yaml)" in caught.value.problem
    assert "to merge site.yaml over base.yaml, write +site.yaml." in caught.value.remedy


@pytest.mark.usefixtures("folder")
def test_another_mistake_in_a_further_model_is_told_plainly() -> None:
    with pytest.raises(ConfigError) as caught:
        load_models(Path("base.yaml"), ["base.yaml", "serving.port=x"])
    assert "merge" not in caught.value.remedy


@pytest.mark.parametrize("words", [["-"], ["base.yaml", "-"], ["base.yaml", "+-"]], ids=" ".join)
@pytest.mark.usefixtures("folder")
def test_standard_input(words: list[str]) -> None:
    done = CliRunner().invoke(app, ["config", *words, "--origins"], input=BASE.replace("8001", "8002"))
    assert done.exit_code == 0
    assert "serving.port: <stdin>:2" in done.stdout


@pytest.mark.usefixtures("folder")
def test_standard_input_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(BASE))
    with pytest.raises(ConfigError, match="standard input can be read once"):
        described(Path("-"), ["-"]).load()
