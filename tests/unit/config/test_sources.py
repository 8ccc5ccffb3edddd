"""What a configuration can be made of: files, mappings, typed configurations, several of them in order."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from ascend_serve.config import AscendServeConfig, load, load_with_sources
from ascend_serve.errors import ConfigError
from ascend_serve.graph.modes import GraphMode, Replan

MODEL = {"model": {"path": "models/tiny"}}
YAML = "model:\n  path: models/tiny\nserving:\n  port: 8001\n"
NESTED = {**MODEL, "serving": {"port": 8001}}


def refusal(source: Any, overrides: Any = ()) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(source, overrides)
    return caught.value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(YAML, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(NESTED, id="dict"),
        pytest.param(OmegaConf.create(NESTED), id="dictconfig"),
        pytest.param(OmegaConf.create({"mine": NESTED}).mine, id="part-of-a-dictconfig"),
        pytest.param(AscendServeConfig.model_validate(NESTED), id="typed"),
        pytest.param({**NESTED, "model": AscendServeConfig.model_validate(NESTED).model}, id="typed-section-in-a-dict"),
        pytest.param(io.StringIO(YAML), id="open-file"),
    ],
)
def test_all_sources_say_the_same(source: Any, file: Path) -> None:
    config = load(source)
    assert config == load(file) == load(str(file))
    assert config.model_fields_set == {"model", "serving"}


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param("graph.mode=FULL", id="one-text"),
        pytest.param(["graph.mode=FULL"], id="list"),
        pytest.param(("graph.mode=FULL",), id="tuple"),
        pytest.param({"graph.mode": "FULL"}, id="mapping"),
        pytest.param({"graph.mode": GraphMode.FULL}, id="typed-value"),
        pytest.param({"graph": {"mode": "FULL"}}, id="nested-value"),
    ],
)
@pytest.mark.parametrize("source", [NESTED, AscendServeConfig.model_validate(NESTED)], ids=["dict", "typed"])
def test_overrides_go_over_any_source(source: Any, overrides: str | Sequence[str] | Mapping[str, Any]) -> None:
    config = load(source, overrides)
    assert config.graph.mode is GraphMode.FULL
    assert config.serving.port == 8001


@pytest.mark.parametrize(
    ("source", "overrides", "problem"),
    [
        pytest.param({"model": {"pth": "x"}}, (), "model.pth: unknown key (<dict>)", id="dict"),
        pytest.param(OmegaConf.create({"model": {"pth": "x"}}), (), "(<DictConfig>)", id="dictconfig"),
        pytest.param(MODEL, {"serving.port": "x"}, "(override 'serving.port=x')", id="text-in-a-mapping-of-overrides"),
        pytest.param(MODEL, {"serving.port": 0.5}, "(override 'serving.port=0.5')", id="value-in-a-mapping"),
        pytest.param({**MODEL, "vllm": {"seed": {1}}}, (), "vllm.seed: {1} (set) cannot stand", id="no-yaml-type"),
        pytest.param(MODEL, {"vllm.seed": {1}}, "vllm.seed: {1} (set) cannot stand", id="no-yaml-type-as-override"),
        pytest.param(5, (), "5 (int) is not a configuration", id="number"),
    ],
)
def test_a_mistake_tells_which_source_it_is_in(source: Any, overrides: Any, problem: str) -> None:
    assert problem in refusal(source, overrides).problem


def test_a_typed_configuration_has_no_interpolations() -> None:
    config = AscendServeConfig.model_validate({**MODEL, "vllm": {"chat_template": "a${b}\\\\${c}\\"}})
    assert load(config) == config


def test_a_dictconfig_is_interpolated_after_overrides() -> None:
    source = OmegaConf.create({**MODEL, "emulated": {"npus": "${parallel.tensor_parallel_size}"}})
    assert load(source, "parallel.tensor_parallel_size=2").emulated.npus == 2


def test_part_of_a_dictconfig_may_refer_to_the_rest() -> None:
    tree = OmegaConf.create({"folder": "models/tiny", "deployment": {"model": {"path": "${folder}"}}})
    assert load(tree.deployment).model.path == "models/tiny"


def test_a_value_that_yaml_made_of_a_word_is_that_word() -> None:
    source = OmegaConf.create("model: {path: x}\ngraph: {replan: off}\nhardware: {soc: 950}")
    assert source.graph.replan is False
    config = load(source)
    assert (config.graph.replan, config.hardware.soc) == (Replan.OFF, "950")


def test_sources_merge_in_order() -> None:
    site = {"graph": {"capture_sizes": [4]}, "serving": {"host": "0.0.0.0"}}
    config = load([{**NESTED, "graph": {"mode": "FULL", "capture_sizes": [1, 2]}}, site], "serving.port=9")
    assert (config.graph.mode, config.graph.capture_sizes) == (GraphMode.FULL, (4,))
    assert (config.serving.host, config.serving.port) == ("0.0.0.0", 9)


def test_each_key_comes_from_the_last_source_that_sets_it(tmp_path: Path, file: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("\nserving: {host: localhost}\n", encoding="utf-8")
    written = load_with_sources([file, site, {"vllm": {"seed": 1}}], "serving.port=9").sources
    assert {".".join(map(str, key)): written.origin(key) for key in written.origins if len(key) == 2} == {
        "model.path": f"{file}:2",
        "serving.port": "override 'serving.port=9'",
        "serving.host": f"{site}:2",
        "vllm.seed": "<dict>",
    }
