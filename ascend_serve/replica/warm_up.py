"""Warming an engine up, until the first request is as fast as the second."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import httpx

from ascend_serve.errors import EngineError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ascend_serve.engine.async_llm import ServedLLM

logger = logging.getLogger(__name__)

_MOST_SECONDS = 300.0
_TOKENS = 4

_SAMPLERS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0, "logprobs": 0},
    {"temperature": 0.8},
    {"temperature": 0.8, "top_p": 0.9},
    {"temperature": 0.8, "top_k": 20},
    {"temperature": 0.8, "top_p": 0.9, "top_k": 20, "logprobs": 1},
    {"temperature": 0.8, "repetition_penalty": 1.1, "presence_penalty": 0.1, "min_p": 0.05},
)

_PROMPTS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "warm up"},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "warm up"}]},
}
_TEXTS: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"input": "warm up"},
    "/classify": {"input": "warm up"},
    "/score": {"queries": "warm", "documents": "up"},
}
"""Ways into the application, of models that generate and of those that pool. What a model cannot do is refused, as a
chat where it has no chat template, which is fine here."""


async def warm_up(llm: ServedLLM) -> None:
    """Run each kind of sampler or pooler once, as the first random one compiles for seconds.

    Raises:
        EngineError: It does not come to an end, or what the model computes is no number.
    """
    await _in_time(_use_poolers(llm) if llm.is_pooling else _use_samplers(llm))


async def use_application(app: FastAPI, *, is_pooling: bool) -> None:
    """Use each way into ``app`` once.

    Args:
        app: vLLM's application.
        is_pooling: Whether its model pools.

    Raises:
        EngineError: It does not come to an end.
    """
    await _in_time(_use_application(app, _bodies(is_pooling=is_pooling)))


async def _in_time(warming: Coroutine[Any, Any, None]) -> None:
    try:
        async with asyncio.timeout(_MOST_SECONDS):
            await warming
    except TimeoutError as error:
        raise EngineError(
            f"The engine stalled in its warm-up: no end after {_MOST_SECONDS:g} s",
            "The logs of the ranks are among Ray's.",
        ) from error


async def _use_samplers(llm: ServedLLM) -> None:
    for kind in _SAMPLERS:
        _check(await llm.ask(_TOKENS, ignore_eos=True, **kind))


async def _use_poolers(llm: ServedLLM) -> None:
    for task in await llm.pooling_tasks():
        _check(await llm.pool(task))


def _check(figure: float | None) -> None:
    """Broken weights would be served all the same: vLLM samples some token from what is no number."""
    if figure is not None and math.isnan(figure):
        raise EngineError(
            "The model computes NaN instead of numbers, so that its answers would be noise",
            "Its weights are broken, or do not fit vllm.dtype: compare the files with their source, try another dtype.",
        )


def _bodies(*, is_pooling: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each way into the application, with a request."""
    if is_pooling:
        yield from _TEXTS.items()
        return
    for path, prompt in _PROMPTS.items():
        for stream in (False, True):
            yield path, {"max_tokens": _TOKENS, "stream": stream, **prompt}


async def _use_application(app: FastAPI, bodies: Iterable[tuple[str, dict[str, Any]]]) -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
        for path, body in bodies:
            response = await client.post(path, json=body, timeout=None)
            logger.debug("Warm-up of %s: %s", path, response.status_code)
