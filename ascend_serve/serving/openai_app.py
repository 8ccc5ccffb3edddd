"""vLLM's own OpenAI application around an engine, so that this answers whatever ``vllm serve`` answers.

vLLM moved these functions between 0.23.0 (``vllm.entrypoints.openai``) and 0.32.0 (``vllm.entrypoints.launchers``);
their signatures are equal.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vllm.utils.argparse_utils import FlexibleArgumentParser

try:
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
except ImportError:
    from vllm.entrypoints.openai.api_server import build_app, init_app_state
    from vllm.entrypoints.openai.cli_args import make_arg_parser

if TYPE_CHECKING:
    from fastapi import FastAPI
    from vllm.v1.engine.async_llm import AsyncLLM


def server_arguments(engine_args: Mapping[str, Any]) -> argparse.Namespace:
    """All arguments of ``vllm serve``: its defaults, with ``engine_args`` in their places."""
    args = make_arg_parser(FlexibleArgumentParser()).parse_args([])
    for name, value in engine_args.items():
        setattr(args, name, value)
    # `vllm serve` takes several names; an engine argument is one.
    if isinstance(args.served_model_name, str):
        args.served_model_name = [args.served_model_name]
    return args


async def openai_app(engine: AsyncLLM, args: argparse.Namespace) -> FastAPI:
    """Build vLLM's application and let it serve from ``engine``."""
    tasks = await engine.get_supported_tasks()
    app = build_app(args, tasks, engine.model_config)
    await init_app_state(engine, app.state, args, tasks)
    return app
