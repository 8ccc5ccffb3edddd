"""vLLM's own OpenAI application around an engine, so that this answers whatever ``vllm serve`` answers.

vLLM moved these functions from ``vllm.entrypoints.openai`` (0.23.0) to ``vllm.entrypoints.launchers`` (0.32.0), and
those for arguments on to ``vllm.entrypoints.common`` (0.33.0); their signatures are equal.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from starlette.datastructures import State
from vllm.utils.argparse_utils import FlexibleArgumentParser

try:
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
except ImportError:
    from vllm.entrypoints.openai.api_server import build_app, init_app_state

try:
    from vllm.entrypoints.common.cli_args import make_arg_parser, validate_api_server_args, validate_parsed_serve_args
except ImportError:
    try:
        from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
        from vllm.entrypoints.launchers.launcher import validate_api_server_args
    except ImportError:
        from vllm.entrypoints.openai.api_server import validate_api_server_args
        from vllm.entrypoints.openai.cli_args import make_arg_parser, validate_parsed_serve_args

from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager

from ascend_serve.config.vllm_arguments import annotation_of, is_server_option
from ascend_serve.errors import ConfigError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from vllm.v1.engine.async_llm import AsyncLLM


def server_arguments(given: Mapping[str, Any]) -> argparse.Namespace:
    """All arguments of ``vllm serve``: its defaults, with what is given in their places; null is a default.

    Mappings and options of the API server go through vLLM's parser, which makes of them what its application reads.

    Raises:
        ConfigError: vLLM does not take one of them.
    """
    said = {name: value for name, value in given.items() if value is not None}
    parsed = {name: value for name, value in said.items() if isinstance(value, Mapping) or is_server_option(name)}
    args = _parsed(parsed)
    for name, value in said.items():
        if name not in parsed:
            setattr(args, name, value)
    # `vllm serve` takes several names; an engine argument is one.
    if isinstance(args.served_model_name, str):
        args.served_model_name = [args.served_model_name]
    _check(args)
    return args


_SEVERAL_WORDS = ("lora_modules",)
"""Options that take several words; other lists are JSON in one."""
_REPEATED = ("middleware",)
"""Options that are given once for each value."""


class _Parser(FlexibleArgumentParser):
    """vLLM's parser, which raises where it would end the process."""

    def error(self, message: str) -> NoReturn:
        raise argparse.ArgumentError(None, message)


def _parsed(options: Mapping[str, Any]) -> argparse.Namespace:
    parser = make_arg_parser(_Parser(exit_on_error=False))
    words = [word for name, value in options.items() for word in _words(name, value)]
    try:
        return parser.parse_args(words)
    except argparse.ArgumentError as error:
        name = str(error.argument_name or "").partition("/")[0].removeprefix("--").replace("-", "_")
        raise _refused(f"vllm.{name}" if name else "vllm", error.message) from error


def _words(name: str, value: Any) -> list[str]:
    """The words of a command line that mean ``value``."""
    flag = "--" + name.replace("_", "-")
    if annotation_of(name) == "bool":
        return [flag if value else flag.replace("--", "--no-", 1)]
    values = value if isinstance(value, list) else [value]
    if name in _SEVERAL_WORDS:
        return [flag, *map(_word, values)]
    return [f"{flag}={_word(each)}" for each in (values if name in _REPEATED else [value])]


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _check(args: argparse.Namespace) -> None:
    """Let vLLM say what it refuses before it loads a model."""
    try:
        if args.tool_parser_plugin:
            ToolParserManager.import_tool_parser(args.tool_parser_plugin)
        if args.reasoning_parser_plugin:
            ReasoningParserManager.import_reasoning_parser(args.reasoning_parser_plugin)
        validate_parsed_serve_args(args)
        validate_api_server_args(args)
    except Exception as error:
        raise _refused("vllm", str(error.args[0] if error.args else error)) from error


def _refused(key: str, message: str) -> ConfigError:
    remedy = "Correct it; vLLM's own documentation of this option says what it takes."
    return ConfigError(f"{key}: {message.removeprefix('Error: ')}", remedy)


_WITHDRAWN = frozenset({"/scale_elastic_ep", "/is_scaling_elastic_ep", "/inference/v1/abort_requests"})
"""Routes of vLLM (0.32.0; the first two also 0.23.0) by which any client could take the engine or the requests of
others away; scaling is none that our executor can do."""


async def openai_app(engine: AsyncLLM, args: argparse.Namespace) -> FastAPI:
    """Build vLLM's application and let it serve from ``engine``."""
    app = build_app(args, await engine.get_supported_tasks(), engine.model_config)
    app.router.routes[:] = [route for route in app.routes if getattr(route, "path", None) not in _WITHDRAWN]
    # The handler of a dead engine's errors sets ``should_exit`` on the server that `vllm serve` puts here.
    app.state = State({"args": args, "server": SimpleNamespace(should_exit=False)})
    await attach(app, engine, args)
    return app


async def attach(app: FastAPI, engine: AsyncLLM, args: argparse.Namespace) -> None:
    """Let vLLM's application serve from ``engine``, instead of from the one before if there was one."""
    await init_app_state(engine, app.state, args, await engine.get_supported_tasks())
