"""Each example of the Graph Mode Guide and its form here ask the same of vLLM."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ascend_serve.config import load
from ascend_serve.config.combinations import ineffective_options
from ascend_serve.planning import plan_deployment
from tests.guide_examples import Example, examples

EXAMPLES = list(examples())


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    path = tmp_path / "deployment.yaml"
    path.write_text("model: {path: /models/Qwen3-8B}\n")
    return path


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_our_form_asks_the_same_of_vllm(example: Example, deployment: Path) -> None:
    arguments = _arguments(deployment, example)
    assert dict(_missing(example.asks, arguments)) == {}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_every_override_has_an_effect(example: Example, deployment: Path) -> None:
    assert ineffective_options(load(deployment, example.overrides)) == ()


@pytest.mark.parametrize("example", [example for example in EXAMPLES if not example.asks], ids=lambda e: e.name)
def test_defaults_are_vllm_ascends(example: Example, deployment: Path) -> None:
    arguments = _arguments(deployment, example)
    assert arguments["compilation_config"]["cudagraph_mode"] == "FULL_AND_PIECEWISE"
    assert arguments["enforce_eager"] is False


def test_the_page_has_every_example_of_the_guide() -> None:
    assert len(EXAMPLES) == 18
    assert len({example.name for example in EXAMPLES}) >= 17


def _arguments(deployment: Path, example: Example) -> dict[str, Any]:
    return plan_deployment(load(deployment, example.overrides), environment={}).vllm_arguments


def _missing(asked: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """Keys that are asked for and are not given so, by dotted name."""
    for key, value in asked.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}.{below}", what) for below, what in _missing(value, given.get(key, {})))
        elif given.get(key) != value:
            yield key, value
