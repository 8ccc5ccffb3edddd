"""Every argument of ``vllm serve`` has a way: below ``vllm:``, or by a key of ours that is named instead."""

from pathlib import Path

import pytest

from ascend_serve.config.passthrough import DECIDED_ELSEWHERE
from ascend_serve.config.vllm_arguments import argument_problems, is_server_option, known_arguments
from ascend_serve.config.vllm_source import VllmArguments, read_arguments, recorded
from ascend_serve.errors import ConfigError

RELEASES = recorded()
OTHER_NAMES = {"help"}
"""Flags that ask the command itself something."""


@pytest.mark.parametrize(
    ("release", "engine", "server"),
    [pytest.param("0.23.0", 210, 58, id="0.23.0"), pytest.param("0.32.0", 257, 66, id="0.32.0")],
)
def test_releases_that_are_recorded(release: str, engine: int, server: int) -> None:
    assert (len(RELEASES[release].engine), len(RELEASES[release].server)) == (engine, server)


@pytest.mark.parametrize("release", RELEASES)
def test_every_argument_is_of_the_engine_or_of_the_server_or_has_a_key_of_ours(release: str) -> None:
    arguments = RELEASES[release]
    both = {*arguments.engine} & {*arguments.server}
    assert both <= {"tokens_only"}  # One field of both: what is given goes to either.
    remedies = [DECIDED_ELSEWHERE[name] for name in (*arguments.engine, *arguments.server) if name in DECIDED_ELSEWHERE]
    assert [remedy for remedy in remedies if not remedy.endswith(".")] == []


def test_names_decided_elsewhere_are_vllms() -> None:
    names = {name for arguments in RELEASES.values() for name in (*arguments.engine, *arguments.server)}
    assert {key for key in DECIDED_ELSEWHERE if "." not in key} <= {*names, *_OF_COMPILATION}


_OF_COMPILATION = {"cudagraph_capture_sizes", "max_cudagraph_capture_size"}


def test_every_flag_of_the_installed_parser_is_known() -> None:
    vllm = pytest.importorskip("ascend_serve.api.openai_app", reason="vLLM is not installed")
    arguments = vars(vllm.server_arguments({"model": "m"}))
    known = known_arguments()
    assert set(arguments) - OTHER_NAMES <= {*known.engine, *known.server}


def test_what_is_recorded_is_what_the_installed_vllm_says() -> None:
    vllm = pytest.importorskip("vllm", reason="vLLM is not installed")
    version = vllm.__version__.partition("+")[0]
    assert version in RELEASES
    # Through JSON, as it is recorded.
    read = read_arguments(Path(vllm.__file__).parents[1]).model_dump(mode="json")
    assert VllmArguments.model_validate(read) == RELEASES[version]


def test_every_option_of_the_server_reaches_it() -> None:
    vllm = pytest.importorskip("ascend_serve.api.openai_app", reason="vLLM is not installed")
    known = known_arguments()
    options = [name for name in known.server if is_server_option(name) and name not in DECIDED_ELSEWHERE]
    for name in options:
        value = EXAMPLES[name] if name in EXAMPLES else _example(known.server[name])
        assert list(argument_problems({**NEEDS.get(name, {}), name: value})) == []
        try:
            parsed = vllm.server_arguments({"model": "m", **NEEDS.get(name, {}), name: value})
        except ConfigError as error:
            pytest.fail(f"{name}: {error}")
        assert name == "lora_modules" or getattr(parsed, name) == value, name


def _example(annotation: str) -> object:
    plain = {"bool": True, "int": 3, "int | None": 3, "str": "text", "str | None": "text"}
    if annotation.startswith("Literal["):
        return annotation.split("'")[1]
    return plain[annotation]


EXAMPLES: dict[str, object] = {
    "allowed_headers": ["a"],
    "allowed_methods": ["GET"],
    "allowed_origins": ["https://a"],
    "chat_template": "{{ messages }}",
    "chat_template_content_format": "string",
    "default_chat_template_kwargs": {"enable_thinking": False},
    "log_error_stack": True,
    "lora_modules": [{"name": "a", "path": "/x"}],
    "middleware": ["a.B"],
    "tool_call_parser": "hermes",
    "tool_parser_plugin": "",
    "tool_server": "demo",
}
NEEDS: dict[str, dict[str, object]] = {
    "enable_auto_tool_choice": {"tool_call_parser": "hermes"},
    "enable_log_outputs": {"enable_log_requests": True},
    "lora_modules": {"enable_lora": True},
}
