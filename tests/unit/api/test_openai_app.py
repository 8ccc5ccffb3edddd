"""What vLLM's application is given: arguments as ``vllm serve`` would have parsed them."""

from __future__ import annotations

from typing import Any

import pytest
from vllm.config import CompilationConfig, ProfilerConfig, StructuredOutputsConfig

from ascend_serve.api.openai_app import server_arguments
from ascend_serve.errors import ConfigError

PROFILER = {"profiler": "torch", "torch_profiler_dir": "/p"}


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        pytest.param("profiler_config", PROFILER, ProfilerConfig, id="profiler"),
        pytest.param("compilation_config", {"cudagraph_mode": "FULL"}, CompilationConfig, id="compilation"),
        pytest.param("structured_outputs_config", {"reasoning_parser": "qwen3"}, StructuredOutputsConfig, id="outputs"),
        pytest.param("additional_config", {"ascend_serve": {"mode": "FULL"}}, dict, id="additional"),
    ],
)
def test_mappings_become_what_the_application_reads(name: str, value: dict[str, Any], kind: type) -> None:
    parsed = getattr(server_arguments({"model": "m", name: value}), name)
    assert type(parsed) is kind
    if kind is dict:
        assert parsed == value


def test_one_name_becomes_a_list_of_names() -> None:
    assert server_arguments({"served_model_name": "demo"}).served_model_name == ["demo"]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        pytest.param({"profiler": "torch"}, "torch_profiler_dir must be set", id="incomplete"),
        pytest.param({"profilr": "torch"}, "profilr", id="misspelled"),
    ],
)
def test_what_vllm_does_not_take_is_named_with_its_key(value: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=rf"vllm\.profiler_config: [\s\S]*{problem}"):
        server_arguments({"profiler_config": value})
