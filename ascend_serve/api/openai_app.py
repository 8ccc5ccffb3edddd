"""vLLM's own OpenAI application around an engine, so that this answers whatever ``vllm serve`` answers.

vLLM moved these functions between 0.23.0 (``vllm.entrypoints.openai``) and 0.32.0 (``vllm.entrypoints.launchers``);
their signatures are equal.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from starlette.datastructures import State
from vllm.utils.argparse_utils import FlexibleArgumentParser

try:
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
except ImportError:
    from vllm.entrypoints.openai.api_server import build_app, init_app_state
    from vllm.entrypoints.openai.cli_args import make_arg_parser

from ascend_serve.errors import ConfigError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from vllm.v1.engine.async_llm import AsyncLLM


def server_arguments(engine_args: Mapping[str, Any]) -> argparse.Namespace:
    """All arguments of ``vllm serve``: its defaults, with ``engine_args`` in their places.

    Raises:
        ConfigError: A mapping holds what vLLM does not take there.
    """
    args = _parsed({name: value for name, value in engine_args.items() if isinstance(value, Mapping)})
    for name, value in engine_args.items():
        if not isinstance(value, Mapping):
            setattr(args, name, value)
    # `vllm serve` takes several names; an engine argument is one.
    if isinstance(args.served_model_name, str):
        args.served_model_name = [args.served_model_name]
    return args


def _parsed(mappings: Mapping[str, Mapping[str, Any]]) -> argparse.Namespace:
    """Let vLLM make of mappings what its application reads: objects such as ``ProfilerConfig``, not dictionaries."""
    try:
        return make_arg_parser(FlexibleArgumentParser(exit_on_error=False)).parse_args([*_options(mappings)])
    except argparse.ArgumentError as error:
        name = str(error.argument_name).partition("/")[0].removeprefix("--").replace("-", "_")
        raise ConfigError(
            f"vllm.{name}: {error.message}", "Correct it; vLLM's own documentation of this option says what it takes."
        ) from error


def _options(mappings: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, mapping in mappings.items():
        yield from ("--" + name.replace("_", "-"), json.dumps(mapping))


async def openai_app(engine: AsyncLLM, args: argparse.Namespace) -> FastAPI:
    """Build vLLM's application and let it serve from ``engine``."""
    app = build_app(args, await engine.get_supported_tasks(), engine.model_config)
    # The handler of a dead engine's errors sets ``should_exit`` on the server that `vllm serve` puts here.
    app.state = State({"args": args, "server": SimpleNamespace(should_exit=False)})
    await attach(app, engine, args)
    return app


async def attach(app: FastAPI, engine: AsyncLLM, args: argparse.Namespace) -> None:
    """Let vLLM's application serve from ``engine``, instead of from the one before if there was one."""
    await init_app_state(engine, app.state, args, await engine.get_supported_tasks())
