"""Interpolation: what it reaches, what becomes of text, and whom a failure blames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ascend_serve.config import load, load_with_sources
from ascend_serve.config.interpolation import defaults
from ascend_serve.config.schema import AscendServeConfig
from ascend_serve.errors import ConfigError

BASE: dict[str, Any] = {"model": {"path": "models/tiny"}}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PORT": "8005", "SIZES": "[1, 2]", "NAME": "007", "FLAG": "on", "WORD": "off"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("UNSET", raising=False)


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        pytest.param("hardware.stream_quota=${emulated.stream_quota}", "hardware", "stream_quota", 2048, id="default"),
        pytest.param("serving.host=${graph.mode}", "serving", "host", "FULL_AND_PIECEWISE", id="default-word"),
        pytest.param("serving.port=${.max_body_bytes}", "serving", "port", None, id="relative-out-of-range"),
        pytest.param("serving.port=${oc.env:PORT}", "serving", "port", 8005, id="number"),
        pytest.param("serving.port=${oc.env:UNSET,8009}", "serving", "port", 8009, id="number-by-default"),
        pytest.param("serving.port=80${oc.env:UNSET,09}", "serving", "port", 8009, id="number-in-pieces"),
        pytest.param("serving.port=${oc.decode:${oc.env:PORT}}", "serving", "port", 8005, id="decoded"),
        pytest.param("graph.capture_sizes=${oc.env:SIZES}", "graph", "capture_sizes", (1, 2), id="list"),
        pytest.param("graph.capture_sizes=[4, '${oc.env:UNSET,8}']", "graph", "capture_sizes", (4, 8), id="element"),
        pytest.param("model.trust_remote_code=${oc.env:FLAG}", "model", "trust_remote_code", True, id="boolean"),
        pytest.param("graph.replan=${oc.env:WORD}", "graph", "replan", "off", id="word"),
        pytest.param("model.served_name=${oc.env:NAME}", "model", "served_name", "007", id="text"),
        pytest.param("model.served_name=${parallel.tensor_parallel_size}", "model", "served_name", "1", id="to-text"),
        pytest.param("model.served_name=${oc.env:UNSET,null}", "model", "served_name", None, id="null"),
        pytest.param("vllm.max_num_seqs=${oc.env:PORT}", "vllm", "max_num_seqs", 8005, id="number-of-vllm"),
        pytest.param("vllm.revision=${oc.env:NAME}", "vllm", "revision", "007", id="text-of-vllm"),
        pytest.param("vllm.hf_overrides.x=${oc.env:PORT}", "vllm", "hf_overrides", {"x": "8005"}, id="open-stays-text"),
        pytest.param("model.served_name=\\${x}", "model", "served_name", "${x}", id="escaped"),
    ],
)
def test_value_of_an_interpolation(override: str, section: str, key: str, value: Any) -> None:
    if value is None and section == "serving":
        with pytest.raises(ConfigError, match=r"serving\.port: 8388608 is not allowed"):
            load(BASE, override)
        return
    loaded = getattr(load(BASE, override), section)
    assert (loaded[key] if section == "vllm" else getattr(loaded, key)) == value


def test_overrides_come_first() -> None:
    source = {**BASE, "emulated": {"npus": "${parallel.tensor_parallel_size}"}}
    assert load(source, "parallel.tensor_parallel_size=4").emulated.npus == 4


def test_what_only_has_a_default_counts_as_not_set() -> None:
    config = load({**BASE, "hardware": {"stream_quota": "${emulated.stream_quota}"}})
    assert config.model_fields_set == {"model", "hardware"}


def test_defaults_are_those_of_the_schema() -> None:
    assert AscendServeConfig.model_validate({**defaults(), **BASE}) == AscendServeConfig.model_validate(BASE)


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        pytest.param(
            "${serving.prt}", "${serving.prt}: key 'serving.prt' not found", "Did you mean ${serving.port}?", id="key"
        ),
        pytest.param(
            "${oc.env:UNSET}",
            "${oc.env:UNSET}: the environment variable UNSET is not set",
            "Set UNSET, or give a default: ${oc.env:UNSET,8000}.",
            id="variable",
        ),
        pytest.param("${serving.port}", "Recursive interpolation", "or the value itself", id="itself"),
        pytest.param("${env:PORT}", "Unsupported interpolation type env", "${oc.env:NAME}", id="resolver"),
        pytest.param("${oc.env:NAME_OF", "malformed interpolation", "${oc.env:NAME}", id="malformed"),
        pytest.param("???", "required, but left open as ???", "Set serving.port.", id="left-open"),
        pytest.param("${oc.env:FLAG}", "serving.port: true is not allowed", "serving.port=8000", id="wrong-type"),
    ],
)
@pytest.mark.parametrize("way", ["file", "override", "mapping"])
def test_failure_blames_where_it_is_written(tmp_path: Path, way: str, text: str, problem: str, remedy: str) -> None:
    path = tmp_path / "base.yaml"
    path.write_text("model:\n  path: x\n" + (f"serving:\n  port: {text}\n" if way == "file" else ""), encoding="utf-8")
    overrides = {"file": (), "override": f"serving.port={text}", "mapping": {"serving.port": text}}[way]
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)  # type: ignore[arg-type]
    assert problem in caught.value.problem
    assert remedy in caught.value.remedy
    assert (f"{path}:4" if way == "file" else f"override 'serving.port={text}'") in caught.value.problem


def test_all_failures_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load(BASE, ["serving.port=${a}", "serving.host=${oc.env:UNSET}"])
    assert "2 problems" in caught.value.problem


def test_origin_of_a_value_names_the_interpolation(tmp_path: Path) -> None:
    path = tmp_path / "base.yaml"
    path.write_text("model:\n  path: x\nserving:\n  port: ${oc.env:PORT}\n", encoding="utf-8")
    assert load_with_sources(path).sources.origin(("serving", "port")) == f"{path}:4, ${{oc.env:PORT}}"
