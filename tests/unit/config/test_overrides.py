"""Overrides as OmegaConf's and Hydra's users know them, and what is said to those that cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ascend_serve.config import LoadedConfig, load, load_with_sources
from ascend_serve.errors import ConfigError

BASE: dict[str, Any] = {
    "model": {"path": "models/tiny"},
    "emulated": {"npus": 2},
    "parallel": {"tensor_parallel_size": 2},
}
FAULTS = [{"rank": 0, "phase": "capture", "error": "hang"}, {"rank": 1, "phase": "join", "error": "crash"}]
SCRIPTED = {**BASE, "emulated": {"npus": 2, "faults": FAULTS}, "graph": {"capture_sizes": [1, 2, 4]}}


def pick(loaded: LoadedConfig, key: str) -> Any:
    value: Any = loaded.config.model_dump(mode="json")
    for part in key.split("."):
        value = value[int(part) if isinstance(value, list) else part]
    return value


def refusal(source: Any, overrides: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(source, overrides)
    return caught.value


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        pytest.param("graph.replan=off", "graph.replan", "off", id="word-that-yaml-takes-for-false"),
        pytest.param("graph={replan: off}", "graph.replan", "off", id="word-in-a-mapping"),
        pytest.param("hardware.soc=950", "hardware.soc", "950", id="word-of-digits"),
        pytest.param("model.served_name=1.10", "model.served_name", "1.10", id="text-like-a-number"),
        pytest.param("model.served_name=007", "model.served_name", "007", id="text-like-an-octal-number"),
        pytest.param("model.served_name=1e3", "model.served_name", "1e3", id="text-like-a-float"),
        pytest.param("model.served_name=on", "model.served_name", "on", id="text-like-a-boolean"),
        pytest.param("model.served_name=2026-01-01", "model.served_name", "2026-01-01", id="text-like-a-date"),
        pytest.param("model.served_name=a: b", "model.served_name", "a: b", id="text-like-a-mapping"),
        pytest.param("model.served_name=[a", "model.served_name", "[a", id="text-like-a-broken-list"),
        pytest.param("model.served_name=a #1", "model.served_name", "a #1", id="text-like-a-comment"),
        pytest.param("model.served_name='007'", "model.served_name", "007", id="text-in-quotes"),
        pytest.param("model.served_name='null'", "model.served_name", "null", id="null-in-quotes"),
        pytest.param("model.served_name=~", "model.served_name", None, id="null"),
        pytest.param(
            "emulated.xlite.versions={0: 1.10}", "emulated.xlite.versions", {"0": "1.10"}, id="text-in-mapping"
        ),
        pytest.param("emulated.xlite.versions.0=1.10", "emulated.xlite.versions", {"0": "1.10"}, id="number-as-key"),
        pytest.param("vllm.revision=1.10", "vllm.revision", "1.10", id="argument-that-is-text-in-vllm"),
        pytest.param("vllm.seed=010", "vllm.seed", 8, id="number-stays-yaml"),
        pytest.param("model.trust_remote_code=on", "model.trust_remote_code", True, id="boolean-stays-yaml"),
        pytest.param("+serving.port=1", "serving.port", 1, id="plus"),
        pytest.param("++serving.port=1", "serving.port", 1, id="two-pluses"),
        pytest.param("+vllm.hf_overrides.y=1", "vllm.hf_overrides", {"y": 1}, id="plus-with-a-new-key"),
        pytest.param("vllm.hf_overrides.a\\.b=1", "vllm.hf_overrides", {"a.b": 1}, id="escaped-dot"),
        pytest.param("emulated.faults.1.rank=0", "emulated.faults.1.rank", 0, id="element-with-a-dot"),
        pytest.param("emulated.faults[1].rank=0", "emulated.faults.1.rank", 0, id="element-in-brackets"),
        pytest.param("emulated.faults[-1].rank=0", "emulated.faults.1.rank", 0, id="element-from-the-end"),
        pytest.param("emulated.faults.0={phase: seal}", "emulated.faults.0.phase", "seal", id="element-is-merged"),
        pytest.param("graph.capture_sizes.0=3", "graph.capture_sizes", [2, 3, 4], id="element-that-is-a-number"),
        pytest.param("~graph.capture_sizes", "graph.capture_sizes", None, id="removed-key"),
        pytest.param("~graph", "graph.capture_sizes", None, id="removed-section"),
        pytest.param("graph=null", "graph.capture_sizes", None, id="section-set-to-null"),
        pytest.param("~graph.capture_sizes.1", "graph.capture_sizes", [1, 4], id="removed-element"),
        pytest.param("~emulated.faults[0]", "emulated.faults.0.phase", "join", id="removed-section-in-a-list"),
    ],
)
def test_text_of_an_override(override: str, key: str, value: Any) -> None:
    assert pick(load_with_sources(SCRIPTED, override), key) == value


@pytest.mark.parametrize(
    ("key", "value", "loaded"),
    [
        pytest.param("model.served_name", "1.10", "1.10", id="text-like-a-number"),
        pytest.param("model.served_name", "a: b", "a: b", id="text-like-a-mapping"),
        pytest.param("model.served_name", " x ", " x ", id="text-with-spaces"),
        pytest.param("vllm.revision", "007", "007", id="argument-that-is-text-in-vllm"),
        pytest.param("vllm.hf_overrides", {"a": "1.10", "b": "off"}, {"a": "1.10", "b": "off"}, id="text-in-a-mapping"),
        pytest.param("graph.replan", False, "off", id="word-that-another-reader-took-for-false"),
        pytest.param("hardware.soc", 950, "950", id="word-that-another-reader-took-for-a-number"),
        pytest.param("graph.capture_sizes", [1, 2], [1, 2], id="list"),
        pytest.param("graph.capture_sizes", "[1,2]", [1, 2], id="list-as-text"),
        pytest.param("vllm.max_num_seqs", "8", 8, id="number-as-text"),
        pytest.param("vllm.enable_prefix_caching", "off", False, id="boolean-as-text"),
        pytest.param("vllm.hf_overrides.x", "{a: [1]}", {"x": {"a": [1]}}, id="mapping-as-text"),
        pytest.param("vllm.hf_overrides.x", "a: b", {"x": "a: b"}, id="open-text-like-a-mapping"),
        pytest.param("vllm.hf_overrides.x", "- b", {"x": "- b"}, id="open-text-like-a-list"),
        pytest.param("vllm.hf_overrides.x", "{{ b }}", {"x": "{{ b }}"}, id="open-text-like-a-broken-mapping"),
        pytest.param("vllm.hf_overrides.x", "", {"x": None}, id="open-text-that-is-empty"),
        pytest.param("~graph.capture_sizes", None, None, id="removal"),
    ],
)
def test_value_in_a_mapping_of_overrides(key: str, value: Any, loaded: Any) -> None:
    """Serve's file has types; ``serve run`` hands text."""
    assert pick(load_with_sources(SCRIPTED, {key: value}), key.removeprefix("~").removesuffix(".x")) == loaded


@pytest.mark.parametrize(
    ("source", "overrides", "problem", "remedy"),
    [
        pytest.param(
            BASE,
            "emulated.faults.0.rank=1",
            "override 'emulated.faults.0.rank=1': emulated.faults has no element 0: it is not set",
            "Write the whole list: 'emulated.faults=[{rank: 1, phase: join, error: stream_exhausted}]'.",
            id="element-of-no-list",
        ),
        pytest.param(
            SCRIPTED,
            "graph.capture_sizes[3]=8",
            "graph.capture_sizes has no element 3: it has 3, counted from 0",
            "'graph.capture_sizes=[1, 2, 4, 8]'",
            id="element-after-the-last",
        ),
        pytest.param(SCRIPTED, "emulated.faults.x.rank=1", "has no element x", "whole list", id="element-by-name"),
        pytest.param(SCRIPTED, "~emulated.faults.5", "no element 5", "~emulated.faults removes", id="removes-too-far"),
        pytest.param(
            {**BASE, "emulated": {"npus": 2, "stream_quota": 9}},
            "emulated.stream_quota.0=5",
            "emulated.stream_quota has no element 0: it is 9",
            "'emulated.stream_quota=[5]'",
            id="element-of-a-number",
        ),
        pytest.param(BASE, "~grpah.mode", "grpah.mode: unknown key", "Did you mean ~graph.mode?", id="removes-unknown"),
        pytest.param(BASE, "~qqqq", "qqqq: unknown key", "--reference", id="removes-unknown-and-nothing-is-near"),
        pytest.param(
            BASE, "~graph.mode=FULL", "a removal has no value", "Write '~graph.mode'.", id="removal-with-value"
        ),
        pytest.param(BASE, "~model", "model: required, but not set", "Set model.path.", id="removes-what-is-required"),
        pytest.param(BASE, "+vlm.seed=1", "vlm: unknown key (override '+vlm.seed=1')", "Did you mean vllm?", id="plus"),
        pytest.param(BASE, "graph.mode=full", '"full" is not allowed', "Did you mean graph.mode=FULL?", id="case"),
        pytest.param(BASE, "graph.replan=no", '"no" is not allowed', "For example graph.replan=off.", id="other-word"),
        pytest.param(BASE, "serving.port='80'", '"80" is not allowed', "without quotes: serving.port=80.", id="quotes"),
        pytest.param(BASE, "serving.port=", "null is not allowed", "for example serving.port=8000.", id="nothing"),
        pytest.param(BASE, "model.path=", "model.path: null is not allowed", "Set model.path", id="no-path"),
        pytest.param(BASE, "graph.capture_sizes=8", "allowed: a list", "'graph.capture_sizes=[8]'", id="no-list"),
        pytest.param(BASE, {"model.served_name": 7}, "7 is not allowed", 'served_name: "7".', id="number-for-text"),
        pytest.param(
            BASE, "emulated.faults=[{rank: 0, error: hang}]", "faults[0].phase: required", "one of join,", id="half"
        ),
        pytest.param(BASE, "graph.capture_sizes[0=2", "not of the form key=value", "dotted key", id="open-bracket"),
        pytest.param({**BASE, "graph.mode": "FULL"}, (), "graph.mode: unknown key", "graph: {mode: ...}", id="dots"),
        pytest.param(BASE, [5], "override 5: not text", "dotted key", id="not-text"),
    ],
)
def test_mistake_tells_what_to_write(source: Any, overrides: Any, problem: str, remedy: str) -> None:
    error = refusal(source, overrides)
    assert problem in error.problem
    assert remedy in error.remedy


def test_what_the_remedy_says_is_taken() -> None:
    _, written, _ = refusal(SCRIPTED, "emulated.faults.2.rank=1").remedy.split("'")
    assert [fault.rank for fault in load(SCRIPTED, written).emulated.faults] == [0, 1, 1]


def test_removing_what_nobody_set_gives_a_warning() -> None:
    warning = "override '~graph.mode' has no effect: nothing sets graph.mode"
    assert load_with_sources(BASE, "~graph.mode").warnings == (warning,)


def test_removed_and_set_again() -> None:
    loaded = load_with_sources({**BASE, "vllm": {"seed": 1, "dtype": "half"}}, ["~vllm", "vllm.seed=2"])
    assert loaded.config.vllm == {"seed": 2}
    assert ("vllm", "dtype") not in loaded.sources.origins


def test_elements_after_a_removed_one_keep_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "base.yaml"
    path.write_text("model: {path: x}\ngraph:\n  capture_sizes:\n  - 1\n  - 2\n  - 4\n", encoding="utf-8")
    sources = load_with_sources(path, ["~graph.capture_sizes.0", "graph.capture_sizes.1=8"]).sources
    assert sources.origin(("graph", "capture_sizes", 0)) == f"{path}:5"
    assert sources.origin(("graph", "capture_sizes", 1)) == "override 'graph.capture_sizes.1=8'"
    assert ("graph", "capture_sizes", 2) not in sources.origins


def test_a_mapping_as_override_keeps_who_said_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "base.yaml"
    path.write_text("model: {path: x}\ngraph:\n  capture_sizes: [1]\n", encoding="utf-8")
    sources = load_with_sources(path, "graph={mode: FULL}").sources
    assert sources.origin(("graph", "capture_sizes")) == f"{path}:3"
    assert sources.origin(("graph", "mode")) == "override 'graph={mode: FULL}'"


PLAIN_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).filter(
    lambda text: "${" not in text and "???" not in text
)
YAML_NO_TEXT = "'\"!#&>|"
"""What YAML reads by itself as a quote, a tag, a comment, an anchor or an empty block."""

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | PLAIN_TEXT,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(PLAIN_TEXT, below, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(PLAIN_TEXT)
def test_any_text_is_a_name_in_a_mapping(text: str) -> None:
    assert load(BASE, {"model.served_name": text}).model.served_name == text


@settings(max_examples=40, deadline=None)
@given(PLAIN_TEXT.filter(lambda text: text[0] not in YAML_NO_TEXT and text.lower() not in ("null", "~")))
def test_any_text_is_a_name_on_a_command_line(text: str) -> None:
    assert load(BASE, f"model.served_name={text}").model.served_name == text


@settings(max_examples=40, deadline=None)
@given(VALUES)
def test_any_json_is_a_value_on_a_command_line(value: Any) -> None:
    assert load(BASE, f"vllm.hf_overrides.x={json.dumps(value, ensure_ascii=False)}").vllm["hf_overrides"]["x"] == value


@settings(max_examples=40, deadline=None)
@given(VALUES.filter(lambda value: not isinstance(value, str)))
def test_any_typed_value_stays_what_it_is_in_a_mapping(value: Any) -> None:
    assert load(BASE, {"vllm.hf_overrides.x": value}).vllm["hf_overrides"]["x"] == value
