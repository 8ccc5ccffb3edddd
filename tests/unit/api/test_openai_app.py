"""What vLLM's application is given: arguments as ``vllm serve`` would have parsed them."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest
from vllm.config import CompilationConfig, ProfilerConfig, StructuredOutputsConfig

from ascend_serve.api.openai_app import openai_app, server_arguments
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


def test_no_client_can_scale_the_engine_or_take_the_requests_of_others_back() -> None:
    engine = AsyncMock(get_supported_tasks=AsyncMock(return_value=("generate",)), model_config=None)
    with patch("ascend_serve.api.openai_app.attach"):
        app = asyncio.run(openai_app(engine, server_arguments({"model": "m"})))
    paths = {getattr(route, "path", "") for route in app.routes}
    assert "/v1/completions" in paths
    assert [path for path in paths if "elastic" in path or "abort" in path] == []


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


@pytest.mark.parametrize(
    ("name", "value", "parsed"),
    [
        pytest.param("enable_auto_tool_choice", False, False, id="a switch that is off"),
        pytest.param("enable_prompt_tokens_details", True, True, id="a switch that is on"),
        pytest.param("chat_template", "{{ messages }} -x", "{{ messages }} -x", id="a template as text"),
        pytest.param("response_role", "-bot", "-bot", id="text that looks like a flag"),
        pytest.param("allowed_origins", ["https://a", "https://b"], ["https://a", "https://b"], id="a list as JSON"),
        pytest.param("middleware", ["a.B", "c.D"], ["a.B", "c.D"], id="an option that repeats"),
        pytest.param("default_chat_template_kwargs", {"thinking": False}, {"thinking": False}, id="a mapping"),
        pytest.param("max_log_len", 7, 7, id="a number"),
        pytest.param("max_log_len", None, None, id="null is the default"),
        pytest.param("seed", None, 0, id="null is the default of an engine argument"),
    ],
)
def test_options_of_the_server_are_what_vllms_parser_makes_of_them(name: str, value: Any, parsed: Any) -> None:
    assert getattr(server_arguments({"model": "m", name: value}), name) == parsed


@pytest.mark.parametrize(
    "value", [["a=/x"], [{"name": "a", "path": "/x"}], ['{"name": "a", "path": "/x"}']], ids=["old", "mapping", "JSON"]
)
def test_adapters_in_every_form(value: list[Any]) -> None:
    (adapter,) = server_arguments({"model": "m", "lora_modules": value}).lora_modules
    assert (adapter.name, adapter.path) == ("a", "/x")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        pytest.param({"lora_modules": [{"nam": "a"}]}, "lora-modules", id="fields of an adapter"),
        pytest.param({"chat_template_content_format": "xml"}, r"vllm\.chat_template_content_format", id="a choice"),
        pytest.param({"chat_template": "/nowhere.jinja"}, "nowhere.jinja", id="a template that is not there"),
        pytest.param({"enable_auto_tool_choice": True}, "requires --tool-call-parser", id="tools without a parser"),
        pytest.param({"enable_auto_tool_choice": True, "tool_call_parser": "x"}, "invalid tool call parser", id="one"),
    ],
)
def test_what_the_server_refuses_is_a_problem_of_the_configuration(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        server_arguments({"model": "m", **given})
