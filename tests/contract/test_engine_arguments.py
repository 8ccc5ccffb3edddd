"""The names of vLLM's engine arguments, read from its source, held equal to those of the class itself."""

import dataclasses

import pytest

from ascend_serve.config.vllm_arguments import known_arguments

arg_utils = pytest.importorskip("vllm.engine.arg_utils", reason="vLLM is not installed")


def test_names_are_those_of_the_installed_class() -> None:
    assert set(known_arguments().engine) == {field.name for field in dataclasses.fields(arg_utils.AsyncEngineArgs)}
