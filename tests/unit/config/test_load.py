"""Loading a configuration: what wins, and what a user is told about each mistake."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ascend_serve.config import load, load_with_sources
from ascend_serve.errors import ConfigError
from ascend_serve.graph.modes import GraphMode

BASE = """\
model:
  path: models/tiny
parallel:
  tensor_parallel_size: 2
emulated:
  npus: 2
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write(tmp_path, BASE)


def write(folder: Path, text: str) -> Path:
    path = folder / "deployment.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path, *overrides: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    return caught.value


def test_defaults_fill_what_the_file_leaves_out(base: Path) -> None:
    config = load(base)
    assert config.parallel.tensor_parallel_size == 2
    assert config.graph.mode is GraphMode.FULL_AND_PIECEWISE
    assert config.serving.port == 8000


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        pytest.param("graph.mode=FULL", "graph", "mode", GraphMode.FULL, id="enum-by-name"),
        pytest.param("serving.port=8001", "serving", "port", 8001, id="number"),
        pytest.param("model.trust_remote_code=true", "model", "trust_remote_code", True, id="boolean"),
        pytest.param("model.served_name=null", "model", "served_name", None, id="null"),
        pytest.param("model.served_name=a=b", "model", "served_name", "a=b", id="value-with-equals"),
        pytest.param("graph.capture_sizes=[8, 1, 8]", "graph", "capture_sizes", (1, 8), id="sizes-sorted-once"),
        pytest.param("emulated.stream_quota=[9, 8]", "emulated", "stream_quota", (9, 8), id="number-replaced-by-list"),
        pytest.param("vllm.max_num_seqs=4", "vllm", None, {"max_num_seqs": 4}, id="pass-through"),
        pytest.param(
            "vllm={max_num_seqs: 4, hf_overrides: {a: 1}}",
            "vllm",
            None,
            {"max_num_seqs": 4, "hf_overrides": {"a": 1}},
            id="pass-through-mapping",
        ),
    ],
)
def test_override_wins(base: Path, override: str, section: str, key: str | None, value: object) -> None:
    loaded = getattr(load(base, [override]), section)
    assert (getattr(loaded, key) if key else loaded) == value


def test_overrides_apply_in_order(base: Path) -> None:
    assert load(base, ["serving.port=1", "serving.port=2"]).serving.port == 2


def test_override_of_a_list_element(tmp_path: Path) -> None:
    path = write(tmp_path, BASE + "graph:\n  capture_sizes: [1, 2, 4]\n")
    assert load(path, ["graph.capture_sizes[2]=16"]).graph.capture_sizes == (1, 2, 16)


@pytest.mark.parametrize(
    ("text", "served_name"),
    [
        pytest.param("served_name: ${parallel.tensor_parallel_size}-way", "2-way", id="another-key"),
        pytest.param("served_name: ${oc.env:TINY_NAME}", "from-environment", id="environment"),
    ],
)
def test_interpolation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, served_name: str) -> None:
    monkeypatch.setenv("TINY_NAME", "from-environment")
    path = write(tmp_path, BASE.replace("path: models/tiny", f"path: models/tiny\n  {text}"))
    assert load(path).model.served_name == served_name


def test_override_may_interpolate(base: Path) -> None:
    assert load(base, ["emulated.npus=${parallel.tensor_parallel_size}"]).emulated.npus == 2


@pytest.mark.parametrize(
    ("path", "loaded"),
    [
        pytest.param("tiny", "{here}/tiny", id="folder-that-is-there-becomes-absolute"),
        pytest.param("Qwen3-32B", "Qwen3-32B", id="name-of-a-card-stays"),
        pytest.param("~/tiny", "{home}/tiny", id="home"),
    ],
)
def test_model_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, loaded: str) -> None:
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    config = load(write(tmp_path, f"model: {{path: {path}}}"))
    assert config.model.path == loaded.format(here=tmp_path, home="/home/somebody")


def test_empty_section_means_defaults(tmp_path: Path) -> None:
    assert load(write(tmp_path, BASE + "graph:\nvllm:\n")).graph.mode is GraphMode.FULL_AND_PIECEWISE


def test_configuration_cannot_be_changed_after_loading(base: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(base).graph.mode = GraphMode.NONE  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "problem", "remedy"),
    [
        pytest.param("graph.mod=FULL", "graph.mod: unknown key", "graph.mode?", id="misspelled-key"),
        pytest.param("grpah.mode=FULL", "grpah: unknown key", "graph?", id="misspelled-section"),
        pytest.param(
            "tensor_parallel_size=2",
            "tensor_parallel_size: unknown key",
            "parallel.tensor_parallel_size?",
            id="key-without-its-section",
        ),
        pytest.param("model.port=1", "model.port: unknown key", "serving.port?", id="key-in-the-wrong-section"),
        pytest.param("qqqq=1", "qqqq: unknown key", "ascend-serve config --reference", id="nothing-near"),
        pytest.param(
            "emulated.faults=[{rank: 1, phase: join, error: hang, sise: 8}]",
            "emulated.faults[0].sise: unknown key",
            "emulated.faults[0].size?",
            id="key-in-a-list",
        ),
        pytest.param("graph.mode=FUL", 'graph.mode: "FUL" is not allowed', "graph.mode", id="enum"),
        pytest.param(
            "graph.mode=FUL",
            "'NONE', 'PIECEWISE', 'FULL', 'FULL_DECODE_ONLY' or 'FULL_AND_PIECEWISE'",
            "",
            id="enum-tells-members",
        ),
        pytest.param("serving.port=eighty", 'serving.port: "eighty" is not allowed', "serving.port", id="text-for-int"),
        pytest.param("serving.port=70000", "less than or equal to 65535", "serving.port", id="out-of-range"),
        pytest.param("serving.port=true", "serving.port: true is not allowed", "serving.port", id="boolean-for-int"),
        pytest.param("serving.port=80.5", "serving.port: 80.5 is not allowed", "serving.port", id="float-for-int"),
        pytest.param("graph.capture_sizes=[0]", "1 or more", "graph.capture_sizes", id="size-zero"),
        pytest.param("graph.capture_sizes=[]", "at least one size", "graph.capture_sizes", id="no-size"),
        pytest.param("emulated.stream_quota=-3", "0 or more", "emulated.stream_quota", id="fewer-streams-than-none"),
        pytest.param("emulated.stream_quota=[9, -1]", "0 or more", "stream_quota", id="fewer-on-one-rank"),
        pytest.param(f"model.path={'x' * 5000}", "no file can be named so", "model.path", id="name-too-long"),
        pytest.param(f"model.path={'x/' * 2500}", "no file can be named so", "model.path", id="path-too-long"),
        pytest.param(f"vllm.a={'[' * 3000}{']' * 3000}", "nested too deeply", "Quote", id="deep-list"),
        pytest.param("graph.capture_sizes=8", "allowed: a list", "graph.capture_sizes", id="number-for-list"),
        pytest.param("emulated.stream_quota=x", "allowed: an integer or a list", "stream_quota", id="union"),
        pytest.param("graph=3", "graph: 3 is not allowed", "graph", id="number-for-section"),
        pytest.param("model.path=null", "model.path: null is not allowed", "model.path", id="null-for-required"),
        pytest.param("graph.mode", "override 'graph.mode': not of the form key=value", "key", id="no-equals"),
        pytest.param("=1", "override '=1': not of the form key=value", "key", id="no-key"),
        pytest.param("a..b=1", "override 'a..b=1': not of the form key=value", "key", id="empty-part"),
        pytest.param("graph.capture_sizes=[1,", "not valid YAML", "Quote", id="unbalanced"),
        pytest.param("serving.port=${serving.prt}", "'serving.prt' not found", "interpolation", id="interpolation"),
        pytest.param("model.path=???", "model.path", "", id="mandatory-value-left-open"),
    ],
)
def test_mistake_in_an_override(base: Path, override: str, problem: str, remedy: str) -> None:
    error = refusal(base, override)
    assert problem in error.problem
    assert remedy in error.remedy
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("model:\n  pth: x\n", "deployment.yaml:2", id="unknown-key-tells-line"),
        pytest.param("model:\n  path: x\nserving:\n  port: x\n", "deployment.yaml:4", id="wrong-type-tells-line"),
        pytest.param("model: [1,\nserving: 3\n", "deployment.yaml:3:1: not valid YAML", id="syntax-tells-line"),
        pytest.param("model: {path: x}\nmodel: {path: y}\n", "duplicate key model", id="key-twice"),
        pytest.param(f"model: {'[' * 3000}{']' * 3000}\n", "nested too deeply", id="deep-list"),
        pytest.param("- 1\n", "not a mapping of keys to values", id="list"),
        pytest.param("model\n", "not a mapping of keys to values", id="scalar"),
        pytest.param("", "model: required, but not set", id="empty"),
        pytest.param("model:\n  served_name: x\n", "model.path: required, but not set", id="missing-key"),
        pytest.param("model: ${", "deployment.yaml:1: model: malformed interpolation", id="broken-interpolation"),
    ],
)
def test_mistake_in_the_file(tmp_path: Path, text: str, problem: str) -> None:
    assert problem in refusal(write(tmp_path, text)).problem


def test_missing_file(tmp_path: Path) -> None:
    error = refusal(tmp_path / "nowhere.yaml")
    assert error.problem.endswith("nowhere.yaml: no such file")
    assert "ascend-serve config --list" in error.remedy


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    assert "a folder without config.json" in refusal(tmp_path).problem


def test_binary_file(tmp_path: Path) -> None:
    (tmp_path / "model.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refusal(tmp_path / "model.yaml").problem


def test_all_mistakes_at_once(base: Path) -> None:
    error = refusal(base, "graph.mod=FULL", "serving.port=x", "tensor_parallel_size=2")
    assert "3 problems" in error.problem
    for key in ("graph.mod", "serving.port", "tensor_parallel_size"):
        assert f"- {key}: " in error.problem


def test_origin_of_a_mistake_is_the_override_that_made_it(base: Path) -> None:
    assert "(override 'serving.port=x')" in refusal(base, "serving.port=x").problem


@pytest.mark.parametrize(
    ("key", "origin"),
    [
        pytest.param(("model", "path"), "deployment.yaml:2", id="file"),
        pytest.param(("parallel", "tensor_parallel_size"), "override 'parallel.tensor_parallel_size=1'", id="override"),
        pytest.param(("serving", "port"), "deployment.yaml", id="nobody"),
    ],
)
def test_origins(base: Path, key: tuple[str, ...], origin: str) -> None:
    loaded = load_with_sources(base, ["parallel.tensor_parallel_size=1"])
    assert loaded.sources.origin(key).endswith(origin)


def test_options_without_effect_are_logged(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load(base, ["graph.xlite.full_mode=true"])
    assert "graph.xlite.full_mode has no effect with graph.runtime: aclgraph" in caplog.text


def test_shipped_configurations_load() -> None:
    configs = Path(__file__).parents[3] / "configs"
    for path in configs.glob("*.yaml"):
        assert load_with_sources(path).warnings == (), path.name
